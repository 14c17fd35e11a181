"""Many rows through one engine, and what that is made of."""

from penstock.engine.batch.append_publisher import AppendPublisher
from penstock.engine.batch.batch import Batch
from penstock.engine.batch.batch_results import BatchResults
from penstock.engine.batch.counters import BatchProgress, BatchSummary
from penstock.engine.batch.journal import Journal
from penstock.engine.batch.publishing import Publisher
from penstock.engine.batch.ray_batch import RayBatch
from penstock.engine.batch.reading import RowFile
from penstock.engine.batch.rename_publisher import RenamePublisher
from penstock.engine.batch.results import BatchResult, openai_line
from penstock.engine.batch.row_retry import RowRetry
from penstock.engine.batch.rows import BatchRow

__all__ = [
    "AppendPublisher",
    "Batch",
    "BatchProgress",
    "BatchResult",
    "BatchResults",
    "BatchRow",
    "BatchSummary",
    "Journal",
    "Publisher",
    "RayBatch",
    "RenamePublisher",
    "RowFile",
    "RowRetry",
    "openai_line",
]
