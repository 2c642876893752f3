"""What was measured, from the tables of docs/performance.md: `python -m tests.capacity` writes it.

CPU times are in microseconds a submission, unless a comment says otherwise.
"""

EDGE_NEW = 1167.0
EDGE_KEPT = 110.0
GATEWAY_ALONE = 196.7
EDGE_BATCH = 110.0
GATEWAY_BATCH = 196.7
GATEWAY_ITEM = 10.0
KAFKA_ALONE = 21.0
KAFKA_ITEM = 7.69
PROCESSOR_ALONE = 49.7
PROCESSOR_ITEM = 25.1
EXPORTER_ALONE = 11.4
EXPORTER_ITEM = 11.4
EXPORTER_SHOWN = 1.59
SCRAPE_BYTES = 49.7
