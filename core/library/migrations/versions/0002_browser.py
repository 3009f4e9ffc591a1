"""Second schema: sums and search words of studies, read status, tags, saved filters, conflicts, quarantine.

The sums and the words need the vault, which a migration doesn't have: ``series_count`` -1 marks the studies whose
sums the engine makes when it opens the library.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_READ_STATUS = {
    "new": "unread",
    "reading": "in_progress",
    "unsure": "in_progress",
    "read": "reviewed",
    "reviewed": "reviewed",
    "dictated": "reviewed",
}


def upgrade() -> None:
    """Add the columns and tables; everything that is there is kept."""
    _extend_series()
    _extend_study()
    _create_tables()
    _create_search()


def downgrade() -> None:
    """Refuse: the reader restores the backup that was made before the migration."""
    raise CommandError("Restore the backup made before the migration.")


def _extend_series() -> None:
    for column in (
        sa.Column("time_points", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("dimension", sa.String(length=32), nullable=False, server_default=""),
        sa.Column("view", sa.String(length=32), nullable=False, server_default=""),
        sa.Column("object_kind", sa.String(length=16), nullable=False, server_default=""),
        sa.Column("source_series", sa.JSON(), nullable=False, server_default="[]"),
    ):
        op.add_column("series", column)


def _extend_study() -> None:
    for column in (
        sa.Column("number", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("modalities", sa.Text(), nullable=False, server_default=""),
        sa.Column("body_parts", sa.Text(), nullable=False, server_default=""),
        sa.Column("series_count", sa.Integer(), nullable=False, server_default="-1"),
        sa.Column("instance_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("frame_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("issue_count", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("study", column)
    op.execute(
        "UPDATE study SET number = numbered.n FROM "
        "(SELECT study_uid, row_number() OVER (ORDER BY imported_utc, study_uid) AS n FROM study) AS numbered "
        "WHERE numbered.study_uid = study.study_uid"
    )
    cases = " ".join(f"WHEN '{old}' THEN '{new}'" for old, new in _READ_STATUS.items())
    op.execute(f"UPDATE study SET status = CASE status {cases} ELSE 'unread' END")
    op.create_index(op.f("ix_study_number"), "study", ["number"], unique=True)
    op.create_index(op.f("ix_study_pseudonym"), "study", ["pseudonym"], unique=False)


def _create_tables() -> None:
    op.create_table(
        "study_tag",
        sa.Column("study_uid", sa.String(length=80), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["study.study_uid"], name=op.f("fk_study_tag_study_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_uid", "tag", name=op.f("pk_study_tag")),
    )
    op.create_table(
        "saved_filter",
        sa.Column("filter_id", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("filter_id", name=op.f("pk_saved_filter")),
    )
    op.create_table(
        "retention_rule",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_retention_rule")),
    )
    op.create_table(
        "conflict",
        sa.Column("conflict_id", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=80), nullable=False),
        sa.Column("study_uid", sa.String(length=80), nullable=False),
        sa.Column("sealed_file", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("seen_utc", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("conflict_id", name=op.f("pk_conflict")),
    )
    op.create_index(op.f("ix_conflict_sop_instance_uid"), "conflict", ["sop_instance_uid"], unique=False)
    op.create_index(op.f("ix_conflict_study_uid"), "conflict", ["study_uid"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("file_id", sa.String(length=64), nullable=False),
        sa.Column("sealed_file", sa.LargeBinary(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("seen_utc", sa.String(length=40), nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("file_id", name=op.f("pk_quarantine")),
    )


def _create_search() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE study_search (rowid BIGINT PRIMARY KEY, words TEXT NOT NULL)")
        return
    # The words come folded, so the tokenizer has nothing to fold. Trigrams find parts of words, as the
    # search always did, and text without spaces (Chinese, Japanese).
    op.execute("CREATE VIRTUAL TABLE study_search USING fts5(words, tokenize = 'trigram case_sensitive 1')")
    # Deleted words leave the index at once instead of at some later merge.
    op.execute("INSERT INTO study_search(study_search, rank) VALUES ('secure-delete', 1)")
