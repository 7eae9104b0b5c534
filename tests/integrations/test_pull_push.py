"""Studies out of a real archive and results into it, with everything that can fail on the way."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from archive_server import Fault, Orthanc, Proxy, files_of, write_tiny_study

from differseg_med import io
from differseg_med.errors import OutputError, ServerError, UsageError
from differseg_med.integrations.archive import Server, case_of, check_query, pull, push
from differseg_med.integrations.archive._archive import Archive

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def server(url: str, **options) -> Server:
    return Server(url, connect_s=2, read_s=5, **options)


def pull_all(url: str, out: Path, query=None, ca: Path | None = None, **options):
    return list(pull(server(url, ca=ca), query or {}, out, **options))


def same_files(pulled: Path, source: Path) -> bool:
    sent = {path.read_bytes() for path in files_of(source)}
    return {path.read_bytes() for path in files_of(pulled)} == sent


def test_pulled_study_is_what_was_sent_byte_for_byte(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    uid = write_tiny_study(tmp_path / "a", 1)
    orthanc.add(*files_of(tmp_path / "a"))
    (pulled,) = pull_all(orthanc.url, tiny_out)
    assert pulled.error is None
    assert pulled.study_uid == uid
    assert pulled.path == tiny_out / case_of(uid)
    assert pulled.fetched == 8
    assert same_files(pulled.path, tmp_path / "a")
    assert [p.name for p in tiny_out.iterdir()] == [case_of(uid)]
    study = io.read_study(pulled.path)
    assert sorted(series.dicom for series in study.series) == ["CT", "PT"]


def test_no_uid_or_name_of_the_study_is_in_a_path(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    uid = write_tiny_study(tmp_path / "a", 1)
    orthanc.add(*files_of(tmp_path / "a"))
    pull_all(orthanc.url, tiny_out)
    for path in tiny_out.rglob("*"):
        assert uid not in str(path)
        assert "PHANTOM" not in str(path).upper().replace(str(tmp_path).upper(), "")


def test_only_the_series_that_the_bundle_needs_are_fetched(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    write_tiny_study(tmp_path / "a", 1, ("pet", "ct"))
    for file in files_of(tmp_path / "a"):  # a report, as every clinical study has one
        dataset = pydicom.dcmread(file)
    dataset.Modality, dataset.SeriesInstanceUID = "OT", dataset.SeriesInstanceUID + ".7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
        dataset.SOPInstanceUID[:50] + ".7"
    )
    dataset.save_as(tmp_path / "other.dcm")
    orthanc.add(*files_of(tmp_path / "a"), tmp_path / "other.dcm")
    (pulled,) = pull_all(orthanc.url, tiny_out, bundle="sts_petctmr")
    assert pulled.fetched == 8
    (everything,) = pull_all(orthanc.url, tmp_path / "all")
    assert everything.fetched == 9


def test_rules_choose_before_anything_is_fetched(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    write_tiny_study(tmp_path / "a", 1, ("mr_t1", "mr_t2", "ct"))
    orthanc.add(*files_of(tmp_path / "a"))
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "modalities:\n  mr_t1:\n    all:\n"
        '      - {tag: SeriesDescription, regex: "T1"}\n'
        "      - {tag: slices, range: [1, 400]}\n"
        "    none: [{tag: ContrastBolusAgent, present: true}]\n",
        encoding="utf-8",
    )
    (pulled,) = pull_all(orthanc.url, tiny_out, rules=io.read_rules(rules))
    assert pulled.fetched == 4
    (series,) = io.read_study(pulled.path).series
    assert series.description == "MR T1"


def test_study_without_a_required_modality_is_not_fetched(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    write_tiny_study(tmp_path / "a", 1, ("ct",))
    write_tiny_study(tmp_path / "b", 2, ("pet",))
    orthanc.add(*files_of(tmp_path / "a"), *files_of(tmp_path / "b"))
    pulled = pull_all(orthanc.url, tiny_out, bundle="sts_petctmr")
    assert sorted(p.error.code if p.error else "ok" for p in pulled) == ["E_MISSING_MODALITY", "ok"]
    assert len(list(tiny_out.iterdir())) == 1


def test_query_limit_and_paging(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("differseg_med.integrations.archive._archive._PAGE", 2)
    uids = [write_tiny_study(tmp_path / str(n), n, ("pet",)) for n in range(3)]
    orthanc.add(*files_of(tmp_path))
    assert len(pull_all(orthanc.url, tiny_out)) == 3
    (one,) = pull_all(orthanc.url, tiny_out, {"StudyInstanceUID": uids[1]})
    assert one.study_uid == uids[1]
    assert one.fetched == 0
    assert len(pull_all(orthanc.url, tiny_out, limit=2)) == 2
    assert pull_all(orthanc.url, tiny_out, {"ModalitiesInStudy": "MG"}) == []


def test_interrupted_pull_goes_on_where_it_was(
    proxy: Proxy, orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    write_tiny_study(tmp_path / "a", 1)
    orthanc.add(*files_of(tmp_path / "a"))
    series = r"/series/[0-9.]+$"
    proxy.faults = [Fault("GET", series), Fault("GET", series, 404)]  # the second one fails
    (failed,) = pull_all(proxy.url, tiny_out)
    assert failed.error is not None
    assert failed.error.code == "E_QUERY"
    assert not (tiny_out / failed.case).exists()
    (pulled,) = pull_all(proxy.url, tiny_out)
    assert pulled.fetched == 4  # the other half was here
    assert same_files(pulled.path, tmp_path / "a")


FOR_NOW = [
    *((r"/studies\?", action) for action in (500, 503, 429, "drop", "half", "hang")),
    *((r"/series/[0-9.]+$", action) for action in (500, 429, "drop", "half", "cut", "hang")),
]


@pytest.mark.parametrize(("path", "action"), FOR_NOW)
def test_what_may_pass_is_tried_again(
    proxy: Proxy, orthanc: Orthanc, tmp_path: Path, tiny_out: Path, path: str, action: int | str
) -> None:
    write_tiny_study(tmp_path / "a", 1)
    orthanc.add(*files_of(tmp_path / "a"))
    proxy.faults = [Fault("GET", path, action, seconds=1.5)]
    patient = Server(proxy.url, read_s=0.8 if action == "hang" else 5)
    (pulled,) = pull(patient, {}, tiny_out)
    assert pulled.error is None
    assert same_files(pulled.path, tmp_path / "a")
    assert [fault.times for fault in proxy.faults] == [0]


@pytest.mark.parametrize(("status", "code"), [(401, "E_AUTH"), (403, "E_AUTH"), (404, "E_QUERY")])
def test_what_cannot_pass_is_not_tried_again(
    proxy: Proxy, tiny_out: Path, status: int, code: str
) -> None:
    proxy.faults = [Fault("GET", "/studies", status, times=9)]
    with pytest.raises(ServerError) as caught:
        pull_all(proxy.url, tiny_out)
    assert caught.value.code == code
    assert len(proxy.seen) == 1
    assert "Canary" not in str(caught.value)


def test_answer_that_is_no_dicom_json(proxy: Proxy, tiny_out: Path) -> None:
    for body in (b"<html>Canary</html>", b'["Canary"]', b'[{"00100010": {"Value": ["Canary"]}}]'):
        proxy.faults = [Fault("GET", "/studies", 200, body=body)]
        with pytest.raises(ServerError, match="E_QUERY") as caught:
            pull_all(proxy.url, tiny_out)
        assert "Canary" not in str(caught.value)


def test_archive_that_knows_no_offset_and_does_not_count() -> None:
    class Client:
        def search_for_studies(self, **options: object) -> list[dict[str, object]]:
            return [{"0020000D": {"vr": "UI", "Value": [f"1.2.{n}"]}} for n in range(3)]

    archive = Archive(Server("http://127.0.0.1:1/dicom-web"))
    archive._client = Client()
    found = list(archive.studies({}))
    assert [(study.uid, study.size) for study in found] == [(f"1.2.{n}", None) for n in range(3)]


def test_wrong_password(orthanc: Orthanc, tiny_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFERSEG_DICOMWEB_PASSWORD", "wrong-canary")
    with pytest.raises(ServerError, match="E_AUTH") as caught:
        pull_all(orthanc.url, tiny_out)
    assert "canary" not in str(caught.value)


def test_password_of_a_netrc(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "PASSWORD"):
        monkeypatch.delenv(f"DIFFERSEG_DICOMWEB_{name}")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login tester password not-a-secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert pull_all(orthanc.url, tiny_out) == []


def test_archive_that_is_down_is_an_error_after_the_last_attempt(
    proxy: Proxy, tiny_out: Path
) -> None:
    proxy.faults = [Fault("GET", "/studies", "drop", times=99)]
    with pytest.raises(ServerError) as caught:
        list(pull(Server(proxy.url, attempts=3), {}, tiny_out))
    assert caught.value.code == "E_SERVER"
    assert len(proxy.seen) == 3


def test_one_bad_study_does_not_stop_the_others(
    proxy: Proxy, orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    uids = [write_tiny_study(tmp_path / str(n), n, ("pet",)) for n in range(3)]
    orthanc.add(*files_of(tmp_path))
    proxy.faults = [Fault("GET", rf"/{uids[1]}/series/[0-9.]+$", 500, times=99)]
    pulled = {p.study_uid: p for p in pull_all(proxy.url, tiny_out)}
    assert [pulled[uid].error is None for uid in uids] == [True, False, True]
    assert pulled[uids[1]].error.code == "E_SERVER"


def test_study_that_grows_while_it_is_read_is_not_taken_for_complete(
    proxy: Proxy, orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    write_tiny_study(tmp_path / "a", 1, ("pet",))
    *early, late = files_of(tmp_path / "a")
    orthanc.add(*early)
    proxy.faults = [Fault("GET", r"/series/[0-9.]+$", before=lambda: orthanc.add(late))]
    (failed,) = pull_all(proxy.url, tiny_out)
    assert failed.error.code == "E_TRANSFER"
    assert not (tiny_out / failed.case).exists()
    (pulled,) = pull_all(proxy.url, tiny_out)
    assert same_files(pulled.path, tmp_path / "a")


def test_study_that_grew_since_is_fetched_again(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    write_tiny_study(tmp_path / "a", 1, ("pet",))
    *early, late = files_of(tmp_path / "a")
    orthanc.add(*early)
    pull_all(orthanc.url, tiny_out)
    orthanc.add(late)
    (pulled,) = pull_all(orthanc.url, tiny_out)
    assert same_files(pulled.path, tmp_path / "a")
    assert len(list(tiny_out.iterdir())) == 1


def test_push_stores_once(proxy: Proxy, orthanc: Orthanc, tmp_path: Path) -> None:
    write_tiny_study(tmp_path / "a", 1, ("pet",))
    (tmp_path / "a" / "status.json").write_text("{}", encoding="utf-8")
    first = push(server(proxy.url), [tmp_path / "a"])
    assert [file.state for file in first.files] == ["stored"] * 4
    assert orthanc.count("PT") == 4
    again = push(server(proxy.url), [tmp_path / "a", *files_of(tmp_path / "a")])
    assert [file.state for file in again.files] == ["present"] * 4
    assert proxy.requests("POST") == 1
    stored = orthanc.rest("GET", "/instances").json()
    back = {orthanc.rest("GET", f"/instances/{one}/file").content for one in stored}
    assert back == {file.read_bytes() for file in files_of(tmp_path / "a")}


def test_messages_become_smaller_until_the_archive_takes_them(
    proxy: Proxy, orthanc: Orthanc, tmp_path: Path
) -> None:
    write_tiny_study(tmp_path / "a", 1)
    size = files_of(tmp_path / "a")[0].stat().st_size
    proxy.faults = [Fault("POST", "/studies", 413, times=99, longer_than=2 * size)]
    report = push(server(proxy.url), [tmp_path / "a"])
    assert not report.failed
    assert orthanc.count("PT") + orthanc.count("CT") == 8
    proxy.faults = [Fault("POST", "/studies", 413, times=99)]
    write_tiny_study(tmp_path / "b", 2, ("pet",))
    report = push(server(proxy.url), [tmp_path / "b"], message_bytes=2 * size + 1)
    assert len(report.failed) == 4
    assert all(file.error.code == "E_STOW" for file in report.failed)


@pytest.mark.parametrize(("action", "seed"), [(500, 1), ("drop", 1), ("forget", 1), ("hang", 99)])
def test_push_that_broke_asks_what_arrived(
    proxy: Proxy, orthanc: Orthanc, tmp_path: Path, action: int | str, seed: int
) -> None:
    # a request that hung arrives late, perhaps in another test: a study that no other one has
    write_tiny_study(tmp_path / "a", seed, ("pet",))
    proxy.faults = [Fault("POST", "/studies", action, seconds=1.5)]
    report = push(Server(proxy.url, read_s=0.8), [tmp_path / "a"])
    assert not report.failed
    assert orthanc.count("PT") == 4
    assert proxy.requests("POST") == (1 if action == "forget" else 2)


def stow_answer(failed: dict[str, int]) -> bytes:
    items = [
        {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
        for uid, reason in failed.items()
    ]
    return json.dumps({"00081198": {"vr": "SQ", "Value": items}}).encode()


def test_partial_failure_is_told_per_object(proxy: Proxy, tmp_path: Path) -> None:
    write_tiny_study(tmp_path / "a", 1, ("pet",))
    files = files_of(tmp_path / "a")
    uids = [io.read_instance_id(file).sop for file in files]
    body = stow_answer({uids[0]: 0xA700, uids[1]: 0x0111})
    kind = {"Content-Type": "application/dicom+json; charset=utf-8"}
    proxy.faults = [Fault("POST", "/studies", 202, headers=kind, body=body)]
    report = push(server(proxy.url), files)
    assert [file.state for file in report.files] == ["failed", "present", "failed", "failed"]
    assert report.files[0].error.code == "E_SERVER"  # may pass, unlike the others
    assert report.files[2].error.code == "E_STOW"
    assert "not there" in str(report.files[2].error)
    proxy.faults = [Fault("POST", "/studies", 409, headers=kind, body=stow_answer({}))]
    assert len(push(server(proxy.url), files).failed) == 4
    assert not push(server(proxy.url), files).failed


def test_damaged_object_does_not_get_in(orthanc: Orthanc, tmp_path: Path) -> None:
    write_tiny_study(tmp_path / "a", 1, ("pet",))
    good, bad, *_ = files_of(tmp_path / "a")
    bad.write_bytes(bad.read_bytes()[:700])
    report = push(server(orthanc.url), [good.parent])
    assert [file.state for file in report.files] == ["stored", "failed", "stored", "stored"]
    assert report.failed[0].path == bad
    assert report.failed[0].error.code == "E_CORRUPT"
    assert orthanc.count("PT") == 3


def test_nothing_of_the_patient_is_said(
    orthanc: Orthanc,
    tmp_path: Path,
    tiny_out: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_tiny_study(tmp_path / "a", 1, ("pet",))
    for path in files_of(tmp_path / "a"):  # values that make parsers talk
        content = (
            path.read_bytes()
            .replace(b"Phantom^Body", b"Canary^Body!")
            .replace(b"ISO_IR 192", b"CANARY 192")
        )
        path.write_bytes(content.replace(b"20240102", b"CANARY-1"))
    orthanc.add(*files_of(tmp_path / "a"))
    with caplog.at_level("DEBUG"):
        (pulled,) = pull_all(orthanc.url, tiny_out)
        push(server(orthanc.url), [pulled.path])
    said = "".join([*capsys.readouterr(), *(record.getMessage() for record in caplog.records)])
    assert "canary" not in said.lower()
    assert not logging.getLogger("dicomweb_client").propagate  # what it says holds UIDs
    assert same_files(pulled.path, tmp_path / "a")


def test_redirect_is_not_followed(proxy: Proxy, tiny_out: Path) -> None:
    elsewhere = {"Location": "http://127.0.0.1:1/dicom-web/studies"}
    proxy.faults = [Fault("GET", "/studies", 302, headers=elsewhere)]
    with pytest.raises(ServerError, match="E_QUERY"):
        pull_all(proxy.url, tiny_out)


def test_output_that_cannot_be_written(orthanc: Orthanc, tmp_path: Path) -> None:
    write_tiny_study(tmp_path / "a", 1, ("pet",))
    orthanc.add(*files_of(tmp_path / "a"))
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match="E_WRITE"):
        pull_all(orthanc.url, tmp_path / "file" / "out")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_certificate_is_checked_against_ones_own_authority(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tmp_path / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(both), "-out", "cert.pem")
    subprocess.run([*command.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    certificate = tmp_path / "cert.pem"
    both.write_text(both.read_text() + certificate.read_text(), encoding="utf-8")
    front = Proxy(orthanc.port, both)
    try:
        with pytest.raises(ServerError, match="E_TLS"):
            pull_all(front.url, tiny_out)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))  # not asked for: not taken
        with pytest.raises(ServerError, match="E_TLS"):
            pull_all(front.url, tiny_out)
        assert pull_all(front.url, tiny_out, ca=certificate) == []
    finally:
        front.close()


def test_wrong_calls_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    for url in (
        "pacs.example/dicom-web",
        "ftp://pacs.example",
        "https://user:canary@pacs.example/dicom-web",
        "http://pacs.example/dicom-web",
        "https://pacs.example/dicom-web?x=1",
        "https://pacs.example:port/",
    ):
        with pytest.raises(UsageError, match="E_OPTION") as caught:
            Server(url)
        assert "canary" not in str(caught.value)
    assert Server("http://pacs.example/dicom-web", insecure_http=True)
    assert Server("http://[::1]:8042/dicom-web/").url == "http://[::1]:8042/dicom-web"
    with pytest.raises(UsageError, match="E_PATH"):
        Server("https://pacs.example", ca=tmp_path / "ca.pem")
    for pair in ("StudyDay=1", "StudyDate", "StudyDate="):
        with pytest.raises(UsageError, match="E_OPTION"):
            check_query([pair])
    with pytest.raises(UsageError, match="E_PATH"):
        push("http://127.0.0.1:1", [tmp_path])
