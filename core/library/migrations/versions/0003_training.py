"""Third schema: trainings on readers' verdicts, their cases, frozen test sets, candidates, promotions.

Nothing of what is there changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    _create_runs()
    _create_frozen()
    _create_candidates()
    _create_promotions()


def downgrade() -> None:
    """Refuse: the reader restores the backup that was made before the migration."""
    raise CommandError("Restore the backup made before the migration.")


def _create_runs() -> None:
    op.create_table(
        "training_run",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("model_id", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("trained_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_utc", sa.String(length=40), nullable=False),
        sa.Column("updated_utc", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_training_run")),
        sa.UniqueConstraint("number", name=op.f("uq_training_run_number")),
    )
    op.create_index(op.f("ix_training_run_model_id"), "training_run", ["model_id"], unique=False)
    op.create_index(op.f("ix_training_run_state"), "training_run", ["state"], unique=False)
    op.create_table(
        "training_case",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("case_id", sa.String(length=64), nullable=False),
        sa.Column("study_uid", sa.String(length=80), nullable=False),
        sa.Column("series_key", sa.String(length=100), nullable=False),
        sa.Column("result_id", sa.String(length=64), nullable=False),
        sa.Column("patient", sa.String(length=32), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["training_run.run_id"], name=op.f("fk_training_case_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["study.study_uid"], name=op.f("fk_training_case_study_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "case_id", name=op.f("pk_training_case")),
    )
    op.create_index(op.f("ix_training_case_study_uid"), "training_case", ["study_uid"], unique=False)


def _create_frozen() -> None:
    op.create_table(
        "frozen_patient",
        sa.Column("model_id", sa.String(length=128), nullable=False),
        sa.Column("patient", sa.String(length=32), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("assigned_utc", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("model_id", "patient", name=op.f("pk_frozen_patient")),
    )


def _create_candidates() -> None:
    op.create_table(
        "candidate",
        sa.Column("candidate_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("model_id", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("bundle_sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_utc", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("candidate_id", name=op.f("pk_candidate")),
        sa.UniqueConstraint("number", name=op.f("uq_candidate_number")),
    )
    op.create_index(op.f("ix_candidate_model_id"), "candidate", ["model_id"], unique=False)


def _create_promotions() -> None:
    op.create_table(
        "promotion",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("model_id", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("candidate_id", sa.String(length=64), nullable=False),
        sa.Column("from_version", sa.String(length=64), nullable=False),
        sa.Column("from_sha256", sa.String(length=64), nullable=False),
        sa.Column("from_folder", sa.String(length=200), nullable=False),
        sa.Column("to_version", sa.String(length=64), nullable=False),
        sa.Column("to_sha256", sa.String(length=64), nullable=False),
        sa.Column("to_folder", sa.String(length=200), nullable=False),
        sa.Column("done_by", sa.String(length=128), nullable=False),
        sa.Column("sealed_reason", sa.LargeBinary(), nullable=False),
        sa.Column("created_utc", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_promotion")),
    )
    op.create_index(op.f("ix_promotion_model_id"), "promotion", ["model_id"], unique=False)
    op.create_table(
        "current_model",
        sa.Column("model_id", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("bundle_sha256", sa.String(length=64), nullable=False),
        sa.Column("folder", sa.String(length=200), nullable=False),
        sa.Column("changed_utc", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_current_model")),
    )
    op.create_table(
        "edit_overlap",
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("dice", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["decision.decision_id"],
            name=op.f("fk_edit_overlap_decision_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_edit_overlap")),
    )
