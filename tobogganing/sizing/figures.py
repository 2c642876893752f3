"""What was measured, from the tables of docs/performance.md: `python -m tests.capacity` writes it.

CPU times are in microseconds a submission, unless a comment says otherwise.
"""

EDGE_NEW = 567.0
EDGE_KEPT = 104.0
GATEWAY_ALONE = 140.0
EDGE_BATCH = 36.7
GATEWAY_BATCH = 70.0
GATEWAY_ITEM = 3.2
KAFKA_ALONE = 144.0
KAFKA_ITEM = 5.89
PROCESSOR_ALONE = 158.0
PROCESSOR_ITEM = 22.3
EXPORTER_ALONE = 88.0
EXPORTER_ITEM = 9.35
EXPORTER_SHOWN = 1.51
SCRAPE_BYTES = 72.5
