"""No name, date, number or note of a DICOM header reaches any output; the patient id alone does."""

from __future__ import annotations

import os
import subprocess
import sys

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from hepar.phantom import PhantomConfig, write_cohort

TEXTS = [
    "PatientName",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "MilitaryRank",
    "BranchOfService",
    "MedicalRecordLocator",
    "EthnicGroup",
    "Occupation",
    "AdditionalPatientHistory",
    "PatientReligiousPreference",
    "PatientComments",
    "PatientInsurancePlanCodeSequence_",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "ReferringPhysicianName",
    "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "PhysiciansOfRecord",
    "RequestingPhysician",
    "RequestingService",
    "RequestedProcedureDescription",
    "RequestedProcedureID",
    "RequestedProcedureComments",
    "ScheduledProcedureStepID",
    "ScheduledProcedureStepDescription",
    "PerformedProcedureStepID",
    "PerformedProcedureStepDescription",
    "CommentsOnThePerformedProcedureStep",
    "AdmissionID",
    "IssuerOfPatientID",
    "CountryOfResidence",
    "RegionOfResidence",
    "CurrentPatientLocation",
    "PatientState",
    "AdmittingDiagnosesDescription",
    "ImageComments",
    "DeviceSerialNumber",
    "DerivationDescription",
    "ResponsiblePerson",
    "ResponsibleOrganization",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSiteName",
    "ContentCreatorName",
    "InterpretationText",
]
DATES = {
    "PatientBirthDate": "19370411",
    "StudyDate": "20110923",
    "SeriesDate": "20110924",
    "AcquisitionDate": "20110925",
    "ContentDate": "20110926",
    "StudyTime": "041937.713",
    "PatientBirthTime": "031559.271",
}
KNOWN = "P001"
"""A patient id, which is in the outputs, as the proof that the search finds what is there."""


def planted():
    """Return keyword -> a text that occurs nowhere by chance, of at most 16 characters."""
    texts = [name for name in TEXTS if not name.endswith("_")]
    return {name: f"ZQ{number:02d}SECRET^X" for number, name in enumerate(texts)} | DATES


def spoil(path):
    """Plant an identifier in each header field, in a private block and in a nested sequence."""
    dataset = pydicom.dcmread(path)
    for name, text in planted().items():
        setattr(dataset, name, text)
    block = dataset.private_block(0x0099, "ZQPRIVATE", create=True)
    block.add_new(0x01, "LO", "ZQ97SECRET^X")
    inner = Dataset()
    inner.PatientID, inner.PatientName = "ZQ98SECRET^X", "ZQ99SECRET^X"
    dataset.OtherPatientIDsSequence = Sequence([inner])
    dataset.save_as(path)


def secrets():
    return [*planted().values(), "ZQPRIVATE", *(f"ZQ{n}SECRET^X" for n in (97, 98, 99))]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return everything that a run, a prediction, an explanation and an audit wrote and said."""
    place = tmp_path_factory.mktemp("identifiers")
    source = place / "source"
    write_cohort(source, PhantomConfig(patients=12, slices=3), formats=("dicom", "masks"))
    for path in sorted((source / "dicom").rglob("*.dcm")):
        spoil(path)
    out = place / "out"
    small = [
        "controls.run=false",
        "recipe.size=64",
        "evaluate.resamples=200",
        "explain.slices=12",
        "explain.checked=2",
    ]
    sets = [word for setting in small for word in ("--set", setting)]
    labels = ["--labels", source / "labels.csv"]
    said = []
    for command in (
        ["run", source / "dicom", *labels, "--out", out / "run", *sets],
        ["run", source / "dicom", *labels, "--out", out / "run", "--json", *sets],
        ["ingest", source / "dicom", "--labels", source / "labels.csv", "--out", out / "m.csv"],
        ["predict", out / "run" / "bundle", source / "dicom", "--out", out / "p.csv"],
        ["predict", out / "run" / "bundle", source / "dicom", "--json"],
        ["explain", out / "run" / "bundle", source / "dicom", "--out", out / "maps"],
        ["audit", source / "dicom", "--out", out / "audit"],
        ["report", out / "run"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "hepar.cli", *map(str, command)],
            capture_output=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert done.returncode == 0, done.stderr
        said += [done.stdout, done.stderr]
    files = {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }
    return {**files, "what the commands said": b"\n".join(said)}


def places(outputs, text):
    return [name for name, content in outputs.items() if text.encode() in content]


def test_about_sixty_identifiers_are_planted():
    assert len(set(secrets())) == len(secrets()) >= 60


def test_the_search_finds_what_is_there(outputs):
    found = places(outputs, KNOWN)
    assert {"run/manifest.csv", "run/report.html", "p.csv", "maps/index.html"} <= set(found)
    assert "what the commands said" in found
    assert any(name.endswith(".safetensors") for name in outputs)


def test_no_identifier_is_in_any_output(outputs):
    assert {text: places(outputs, text) for text in secrets() if places(outputs, text)} == {}
