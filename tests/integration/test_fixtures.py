"""The real parts that other tests stand on answer as they should."""

import boto3
import pytest
import redis
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core.platform.settings import StoreSettings

pytestmark = pytest.mark.integration


def test_database_is_migrated_and_own(tx: Session, database: Engine) -> None:
    assert tx.execute(text("select count(*) from runs")).scalar_one() == 0
    with database.connect() as connection:
        assert connection.execute(text("select version_num from alembic_version")).scalar_one()


def test_redis_and_s3_answer(redis_url: str, s3: StoreSettings) -> None:
    client = redis.Redis.from_url(redis_url)
    assert client.ping()
    client.close()
    assert s3.url is not None
    assert s3.secret_access_key is not None
    store = boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        region_name=s3.region,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key.get_secret_value(),
    )
    bucket = s3.url.removeprefix("s3://").partition("/")[0]
    assert store.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    store.close()
