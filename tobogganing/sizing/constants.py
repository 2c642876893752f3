"""What the capacity plan assumes: sizes of records and processes, and limits of instances."""

from tobogganing.sizing.figures import KAFKA_ALONE, KAFKA_ITEM, PROCESSOR_ALONE, PROCESSOR_ITEM

LINGER_SECONDS = 0.1
"""How often a gateway under load sends the frames of all partitions (LINGER_MS)."""
ALONE_FRAME = 1_000 * LINGER_SECONDS / 12
"""Submissions in a frame when `*_ALONE` was measured: 1,000 a second, 12 partitions."""
KAFKA_FRAME = max(0.0, KAFKA_ALONE - KAFKA_ITEM) * ALONE_FRAME
PROCESSOR_FRAME = max(0.0, PROCESSOR_ALONE - PROCESSOR_ITEM) * ALONE_FRAME
"""A frame, apart from the submissions in it, in microseconds of CPU time."""

# Memory of a process in bytes: the base, and each entity that it knows.
GATEWAY_BASE, GATEWAY_ENTITY = 63_000_000, 1_000
"""Half of it is the registry, the other half is prepared for each entity that submits."""
PROCESSOR_BASE, PROCESSOR_ENTITY = 60_000_000, 1_500
EXPORTER_BASE, EXPORTER_ENTITY, EXPORTER_REGISTERED = 62_000_000, 1_000, 600

# Bytes in Kafka, for a client that sends all metrics.
SUBMISSION_BYTES = 286
"""A submission as an agent sends it, and in a frame before compression."""
PACKED_SUBMISSION_BYTES, PACKED_FRAME_BYTES = 40, 290
"""Each submission of a compressed frame, and the rest of the frame, as a record batch of its
own."""
ROW_BYTES = 421
"""A row of `entity-state` as a record batch of its own."""
REGISTRY_BYTES = 300

BUSY = 0.5
"""Largest share of its cores that an instance uses with one of its kind lost."""
MEMORY_RESERVE = 1.25
DISK_FULL = 0.7
"""Largest share of a broker's disk in use."""
UNEVEN = 1.25
"""Load of the fullest processor, as a multiple of the mean: partitions are not divided."""
SPREAD = 4
"""Least number of partitions for each processor and shard."""
FEWEST_PARTITIONS = 12
SHARD_ENTITIES = 300_000
"""Most entities of one exporter: a scrape of them takes little over a second."""
SCRAPE_SECONDS = 15
EDGE_CORES = 4
"""Most cores of an edge."""
EDGE_BASE, EDGE_CONNECTION = 0.1e9, 17_000
"""Memory of an edge in bytes: its base, and each idle connection with TLS
(`python -m bench.idle_connections`)."""
EDGE_CONNECTIONS = 150_000
"""Most connections of an edge, as deploy/edge allows."""
REQUEST_SECONDS = 1.0
"""Duration of a connection that is opened for one request."""
BROKERS, REPLICATION = 3, 3
BROKER_CORES, BROKER_DISK = 8, 4e12
"""Limits of one broker; beyond them there are more brokers."""
BROKER_MEMORY = 1.5e9
CACHED_SECONDS = 300
"""Seconds of writes that a broker's memory holds, so that readers need no disk."""
