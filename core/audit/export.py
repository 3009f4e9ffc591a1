"""Writes the audit trail for others: DICOM audit messages in XML, and a table in CSV.

Source: DICOM PS3.15 A.5 (audit message format, RFC 3881 with DICOM extensions), PS3.16 CID 400, 401, 404, 405.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, fields
from xml.etree import ElementTree

from core.domain.audit import AuditCode, AuditRecord

OWN_SCHEME = "99OVERREAD"
_ACTIVITY = ("110100", "Application Activity")
_SECURITY = ("110113", "Security Alert")
# Event (CID 400) and its type (CID 401) for what isn't an event of its own.
_AS_TYPE = {
    AuditCode.APPLICATION_START: (_ACTIVITY, "Application Start"),
    AuditCode.APPLICATION_STOP: (_ACTIVITY, "Application Stop"),
    AuditCode.SECURITY_CONFIGURATION: (_SECURITY, "Security Configuration"),
    AuditCode.SOFTWARE_CONFIGURATION: (_SECURITY, "Software Configuration"),
}
_EVENT_NAMES = {
    AuditCode.AUDIT_LOG_USED: "Audit Log Used",
    AuditCode.INSTANCES_ACCESSED: "DICOM Instances Accessed",
    AuditCode.STUDY_DELETED: "DICOM Study Deleted",
    AuditCode.EXPORT: "Export",
    AuditCode.IMPORT: "Import",
    AuditCode.QUERY: "Query",
    AuditCode.SECURITY_ALERT: "Security Alert",
}
# ParticipantObjectTypeCode, role, and identifier type. Source: PS3.15 A.5.1, RFC 3881 section 5.5.
_OBJECTS = {
    "study": ("2", "3", ("110180", "DCM", "Study Instance UID")),
    "series": ("2", "3", ("112002", "DCM", "Series Instance UID")),
    "log": ("2", "13", ("12", "RFC-3881", "URI")),
}
_OTHER_OBJECT = ("2", "3", ("9", "RFC-3881", "Report Number"))
_LIFE_CYCLE = {AuditCode.IMPORT: "1", AuditCode.INSTANCES_ACCESSED: "6", AuditCode.EXPORT: "10"}


def to_xml(records: Iterable[AuditRecord], source_id: str) -> bytes:
    """Return one ``AuditMessage`` per record inside an ``AuditMessages`` element.

    Parameters
    ----------
    source_id : str
        Identifier of this installation (``AuditSourceID``).
    """
    root = ElementTree.Element("AuditMessages")
    for record in records:
        root.append(message(record, source_id))
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def message(record: AuditRecord, source_id: str) -> ElementTree.Element:
    """Return the audit message of one record."""
    root = ElementTree.Element("AuditMessage")
    _event(root, record)
    _participants(root, record)
    source = ElementTree.SubElement(root, "AuditSourceIdentification", AuditSourceID=source_id)
    _code(source, "AuditSourceTypeCode", "1", "DCM", "End-user display device")
    if record.object_ref:
        _object(root, record)
    return root


def to_csv(records: Iterable[AuditRecord]) -> str:
    """Return a table with one row per record; a cell that a spreadsheet would calculate is quoted with ``'``."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow([f.name for f in fields(AuditRecord)])
    for record in records:
        writer.writerow([harmless(cell) for cell in astuple(record)])
    return stream.getvalue()


def harmless(cell: object) -> object:
    """Return a cell that no spreadsheet takes for a formula. Source: OWASP, CSV injection."""
    if isinstance(cell, str) and cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return "'" + cell
    return cell


def _event(root: ElementTree.Element, record: AuditRecord) -> None:
    event = ElementTree.SubElement(
        root,
        "EventIdentification",
        EventActionCode=record.action,
        EventDateTime=record.ts_utc,
        EventOutcomeIndicator=str(record.outcome),
    )
    code = AuditCode(record.event_code)
    if code in _AS_TYPE:
        (value, meaning), type_meaning = _AS_TYPE[code]
        _code(event, "EventID", value, "DCM", meaning)
        _code(event, "EventTypeCode", str(code), "DCM", type_meaning)
    elif code in _EVENT_NAMES:
        _code(event, "EventID", str(code), "DCM", _EVENT_NAMES[code])
    else:
        _code(event, "EventID", str(code), OWN_SCHEME, str(code).replace("-", " ").capitalize())
    if record.reason:
        ElementTree.SubElement(event, "EventOutcomeDescription").text = record.reason


def _participants(root: ElementTree.Element, record: AuditRecord) -> None:
    user = ElementTree.SubElement(
        root,
        "ActiveParticipant",
        UserID=record.user_id,
        AlternativeUserID=record.os_user,
        UserIsRequestor="true",
        NetworkAccessPointID=record.host,
        NetworkAccessPointTypeCode="1",
    )
    _code(user, "RoleIDCode", record.role or "reader", OWN_SCHEME, record.role or "reader")
    program = ElementTree.SubElement(
        root,
        "ActiveParticipant",
        UserID=f"overread/{record.app_version}",
        AlternativeUserID=record.process,
        UserIsRequestor="false",
        NetworkAccessPointID=record.host,
        NetworkAccessPointTypeCode="1",
    )
    _code(program, "RoleIDCode", "110150", "DCM", "Application")


def _object(root: ElementTree.Element, record: AuditRecord) -> None:
    type_code, role, (value, scheme, meaning) = _OBJECTS.get(record.object_kind, _OTHER_OBJECT)
    attributes = {
        "ParticipantObjectID": record.object_ref,
        "ParticipantObjectTypeCode": type_code,
        "ParticipantObjectTypeCodeRole": role,
    }
    life_cycle = _LIFE_CYCLE.get(AuditCode(record.event_code))
    if life_cycle:
        attributes["ParticipantObjectDataLifeCycle"] = life_cycle
    element = ElementTree.SubElement(root, "ParticipantObjectIdentification", attributes)
    _code(element, "ParticipantObjectIDTypeCode", value, scheme, meaning)
    ElementTree.SubElement(element, "ParticipantObjectName").text = record.object_kind or "object"


def _code(parent: ElementTree.Element, tag: str, value: str, scheme: str, meaning: str) -> None:
    attributes = {"csd-code": value, "codeSystemName": scheme, "originalText": meaning}
    ElementTree.SubElement(parent, tag, attributes)
