# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that the other integration tests take for granted."""

import os
import subprocess

import boto3
import pytest


@pytest.mark.debian12
def test_runs_as_root_under_a_healthy_systemd() -> None:
    command = ["systemctl", "list-units", "--failed", "--plain", "--no-legend"]
    failed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    # Units that other tests of this host have removed are remembered, without a file.
    assert (os.geteuid(), [one for one in failed if one.split()[1] != "not-found"]) == (0, [])


@pytest.mark.debian12
def test_s3_keeps_what_is_put_and_refuses_a_wrong_key() -> None:
    endpoint = os.environ["RESTAURA_TEST_S3_ENDPOINT"]
    client = boto3.client("s3", endpoint_url=endpoint)
    bucket = f"lab-host-{os.uname().nodename}"
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="a b/ü", Body=b"kept")
    assert client.get_object(Bucket=bucket, Key="a b/ü")["Body"].read() == b"kept"
    stranger = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="nobody", aws_secret_access_key="nothing")
    with pytest.raises(stranger.exceptions.ClientError):
        stranger.get_object(Bucket=bucket, Key="a b/ü")
    client.delete_object(Bucket=bucket, Key="a b/ü")
    client.delete_bucket(Bucket=bucket)
    # Left open, their sockets would warn in a later test.
    client.close()
    stranger.close()


@pytest.mark.debian12
def test_postgres_is_installed_and_off_until_a_test_starts_it() -> None:
    clusters = subprocess.run(["pg_lsclusters", "--no-header"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[1:2] for line in clusters.splitlines()] == [["main"]]
