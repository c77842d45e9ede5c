"""All SQL on models, versions, files and aliases."""

import re
from collections.abc import Mapping, Sequence

from sqlalchemy import exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from core.access.sandboxes import in_sandbox
from core.platform.paging import Page, Slice, keyset, page_of
from core.registry.errors import ModelNotFound, VersionNotFound
from core.registry.lineage import Descent, Lineage
from core.registry.tables import Model, ModelAlias, ModelFile, ModelVersion
from core.unlearning.job import StoredFile

LATEST = "latest"
PRODUCTION = "production"
_MOST_DIGITS = 9


class Models:
    """Models as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def by_name(self, workspace_id: str, name: str) -> Model:
        """Raises ``ModelNotFound`` for an unknown name and for another workspace's."""
        found = self.find(workspace_id, name)
        if found is None:
            raise ModelNotFound("There is no model of this name.")
        return found

    def find(self, workspace_id: str, name: str) -> Model | None:
        """The model of this name in this workspace."""
        return self._tx.scalar(select(Model).where(Model.workspace_id == workspace_id, Model.name == name))

    def get(self, model_id: str) -> Model:
        """Raises ``ModelNotFound``."""
        found = self._tx.get(Model, model_id)
        if found is None:
            raise ModelNotFound("There is no such model.")
        return found

    def lock(self, model_id: str) -> Model:
        """The model with its row locked until the transaction ends. Raises ``ModelNotFound``."""
        found = self._tx.scalar(
            select(Model).where(Model.id == model_id).with_for_update().execution_options(populate_existing=True)
        )
        if found is None:
            raise ModelNotFound("There is no such model.")
        return found

    def trained_on(self, dataset_id: str) -> Sequence[Model]:
        """Every model of a data set, by id."""
        return self._tx.scalars(select(Model).where(Model.dataset_id == dataset_id).order_by(Model.id)).all()

    def add(self, model: Model) -> Model:
        """Insert a model; the caller has made sure that its name is free."""
        self._tx.add(model)
        self._tx.flush()
        return model

    def page(self, workspace_id: str, page: Page) -> Slice[Model]:
        """The workspace's models, newest first."""
        query = keyset(select(Model).where(Model.workspace_id == workspace_id), page, Model.created_at, Model.id)
        return page_of(self._tx.scalars(query).all(), page, lambda row: (row.created_at, row.id))


class Versions:
    """Versions, their files and aliases as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def resolve(self, model_id: str, reference: str) -> ModelVersion:
        """The version a number or alias names. Raises ``VersionNotFound``."""
        number = int(reference) if re.fullmatch(rf"[0-9]{{1,{_MOST_DIGITS}}}", reference) else None
        if number is None:
            number = self.aliases(model_id).get(reference)
        found = self.find(model_id, number) if number is not None else None
        if found is None:
            raise VersionNotFound("The model has no such version or alias.")
        return found

    def find(self, model_id: str, number: int) -> ModelVersion | None:
        """The version of this number."""
        return self._tx.scalar(
            select(ModelVersion).where(ModelVersion.model_id == model_id, ModelVersion.version == number)
        )

    def files(self, version_id: str) -> tuple[StoredFile, ...]:
        """The version's files by path."""
        rows = self._tx.scalars(select(ModelFile).where(ModelFile.version_id == version_id).order_by(ModelFile.path))
        return tuple(StoredFile(row.path, row.uri, row.size_bytes, row.sha256) for row in rows)

    def aliases(self, model_id: str) -> Mapping[str, int]:
        """Alias → version number, by alias."""
        return self.aliases_of([model_id])[model_id]

    def aliases_of(self, model_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """Aliases of several models in one query: model id → alias → version number."""
        rows = self._tx.execute(
            select(ModelAlias.model_id, ModelAlias.alias, ModelAlias.version)
            .where(ModelAlias.model_id.in_(model_ids))
            .order_by(ModelAlias.alias)
        )
        found: dict[str, dict[str, int]] = {model_id: {} for model_id in model_ids}
        for model_id, alias, version in rows:
            found[model_id][alias] = version
        return found

    def highest(self, model_id: str) -> int:
        """The highest version number given out; 0 before the first."""
        return self._tx.scalar(select(func.max(ModelVersion.version)).where(ModelVersion.model_id == model_id)) or 0

    def all(self, model_id: str) -> Sequence[ModelVersion]:
        """Every version of a model as it is now, in order of number."""
        statement = select(ModelVersion).where(ModelVersion.model_id == model_id).order_by(ModelVersion.version)
        return self._tx.scalars(statement.execution_options(populate_existing=True)).all()

    def lineage(self, model_id: str) -> Lineage:
        """What each version of the model still holds."""
        columns = (ModelVersion.version, ModelVersion.parent_version, ModelVersion.run_id, ModelVersion.digest)
        rows = self._tx.execute(select(*columns).where(ModelVersion.model_id == model_id))
        return Lineage.of(Descent(*row) for row in rows)

    def being_purged(self) -> Sequence[str]:
        """Ids of purged versions of which files are left."""
        statement = select(ModelVersion.id).where(ModelVersion.state == "purged", ModelVersion.purged_at.is_(None))
        return self._tx.scalars(statement.order_by(ModelVersion.id)).all()

    def lock_purged(self, version_id: str) -> ModelVersion | None:
        """A purged version of which files are left, locked; None when it is none, or somebody else is at it."""
        statement = (
            select(ModelVersion)
            .where(ModelVersion.id == version_id, ModelVersion.state == "purged", ModelVersion.purged_at.is_(None))
            .with_for_update(skip_locked=True)
        )
        return self._tx.scalar(statement.execution_options(populate_existing=True))

    def unlearned_models(self) -> Sequence[str]:
        """Models with versions that may hold what a run of theirs has unlearned: ids in order. None of sandboxes."""
        by_run = aliased(ModelVersion)
        unlearned = exists().where(by_run.model_id == ModelVersion.model_id, by_run.run_id.is_not(None))
        live = select(Model.id).where(~in_sandbox(Model.workspace_id))
        held = ModelVersion.model_id.in_(live) & (ModelVersion.state != "purged")
        statement = select(ModelVersion.model_id).where(held, unlearned).distinct()
        return self._tx.scalars(statement.order_by(ModelVersion.model_id)).all()

    def add(self, version: ModelVersion, files: Sequence[StoredFile]) -> ModelVersion:
        """Insert a version with its files."""
        self._tx.add(version)
        self._tx.flush()
        self._tx.add_all(
            ModelFile(version_id=version.id, path=f.path, uri=f.uri, size_bytes=f.size_bytes, sha256=f.sha256)
            for f in files
        )
        self._tx.flush()
        return version

    def point(self, model_id: str, alias: str, number: int) -> None:
        """Set or move an alias."""
        row = insert(ModelAlias).values(model_id=model_id, alias=alias, version=number)
        self._tx.execute(
            row.on_conflict_do_update(
                index_elements=[ModelAlias.model_id, ModelAlias.alias],
                set_={"version": row.excluded.version, "updated_at": func.now()},
            )
        )

    def page(self, model_id: str, page: Page) -> Slice[ModelVersion]:
        """The model's versions, newest first."""
        query = select(ModelVersion).where(ModelVersion.model_id == model_id)
        rows = self._tx.scalars(keyset(query, page, ModelVersion.created_at, ModelVersion.id)).all()
        return page_of(rows, page, lambda row: (row.created_at, row.id))
