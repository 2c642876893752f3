"""The command line, and the local run of all services on one machine."""
