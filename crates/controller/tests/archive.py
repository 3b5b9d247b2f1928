"""Reads the archive with an engine that knows nothing of us, for archive.rs.

  archive.py sums DIR                        what DuckDB finds, as JSON: rows, sums, types
  archive.py bucket ENDPOINT BUCKET          makes a bucket on an S3 server
  archive.py fetch ENDPOINT BUCKET DIR       copies all its objects into a folder
"""

import glob
import json
import pathlib
import sys

import duckdb

SUMS = {
    "energy": ["energy_ws", "meter_ws"],
    "shares": ["shares", "work_hashes", "credited_hashes"],
    "run": ["held_gpu_ms", "progress_gpu_ms", "cost_microdollars"],
    "gas": ["supplied_scf", "burnt_scf", "flared_scf"],
    "import": ["energy_ws", "cost_microdollars"],
    "gap": [],
}


def sums(folder):
    found, types = {}, {}
    for table, columns in SUMS.items():
        paths = [f"{folder}/{stage}/{table}/*/*/*.parquet" for stage in ("fresh", "hour")]
        paths = [path for path in paths if glob.glob(path)]
        key = "module, sequence, line" + (", part" if table == "energy" else "")
        source = f"read_parquet({paths!r}, hive_partitioning = true)"
        # The key is the documents'; where it were not one, fewer rows would be left than there are different ones.
        duckdb.sql(f'CREATE VIEW "{table}" AS SELECT DISTINCT ON ({key}) * FROM {source}')
        rows = duckdb.sql(f"SELECT count(*) FROM (SELECT DISTINCT * FROM {source})").fetchall()[0][0]
        wanted = ", ".join(["count(*)", *(f"sum({column})" for column in columns)])
        values = duckdb.sql(f'SELECT {wanted} FROM "{table}"').fetchall()[0]
        assert values[0] == rows, f"{table}: {rows} different rows, {values[0]} keys"
        found[f"{table}.rows"] = str(values[0])
        for column, value in zip(columns, values[1:]):
            found[f"{table}.{column}"] = str(value)
        for name, kind, *_ in duckdb.sql(f'DESCRIBE "{table}"').fetchall():
            types[f"{table}.{name}"] = kind
        # A row lies in the hour that its own time says, as the partitions' columns do.
        if table not in ("gap", "shares"):
            strays = duckdb.sql(
                f"SELECT count(*) FROM \"{table}\" WHERE strftime(from_utc AT TIME ZONE 'UTC', '%Y-%m-%d %H')"
                " <> strftime(date::DATE, '%Y-%m-%d') || ' ' || lpad(hour::VARCHAR, 2, '0')"
            ).fetchall()[0][0]
            assert strays == 0, f"{table}: {strays} rows lie in another hour than their own"
    print(json.dumps({"sums": found, "types": types}))


def client(endpoint):
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)


def fetch(endpoint, bucket, folder):
    s3 = client(endpoint)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            path = pathlib.Path(folder, item["Key"])
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, item["Key"], str(path))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sums", folder]:
            sums(folder)
        case ["bucket", endpoint, bucket]:
            client(endpoint).create_bucket(Bucket=bucket)
        case ["fetch", endpoint, bucket, folder]:
            fetch(endpoint, bucket, folder)
        case _:
            sys.exit(__doc__)
