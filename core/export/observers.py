"""Who observed: the reader and this program. Source: DICOM PS3.16 TID 1001 … 1004."""

from __future__ import annotations

import highdicom as hd
from pydicom.sr.codedict import codes

from core.export.identifiers import MANUFACTURER, PRODUCT, device_uid
from core.export.report_facts import ReportFacts


def person_observer(facts: ReportFacts) -> hd.sr.ObserverContext | None:
    """Return the reader as an observer, None when nobody reviewed."""
    if not facts.reader:
        return None
    return hd.sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(
            name=_person_name(facts.reader)
        ),
    )


def device_observer(facts: ReportFacts) -> hd.sr.ObserverContext:
    """Return this installation as an observer."""
    return hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(facts.serial),
            name=PRODUCT,
            manufacturer_name=MANUFACTURER,
            model_name=PRODUCT,
            serial_number=facts.serial,
        ),
    )


def _person_name(reader: str) -> str:
    """Return a reader's name as VR PN; a single word becomes the family name (its older form is retired)."""
    return reader if "^" in reader else f"{reader}^"
