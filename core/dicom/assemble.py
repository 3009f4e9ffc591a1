"""From the files of one displayable group to a volume in the units of the modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from core.config.memory import require_memory
from core.dicom.cine import frame_times_ms
from core.dicom.decode import PixelReader
from core.dicom.faults import malformed, memory_guarded, translated
from core.dicom.header import Header
from core.dicom.layout import Layout, lay_out
from core.dicom.mosaic import TileReader
from core.dicom.palette import to_rgb
from core.dicom.parallel import in_parallel
from core.dicom.part10 import NotDicom
from core.dicom.reading import IsDicomdir, recall_header
from core.dicom.rescale import modality_table, output_dtype, rescale_of, units_of, windows_of
from core.dicom.shear import needs_straightening, straightened
from core.dicom.suv import SuvFactor, suv_factor
from core.domain.errors import InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import InstanceRef, SeriesSummary
from core.domain.volume import SeriesIssue, Volume

OnSlice = Callable[[int, VolumeGeometry, NDArray], None]
_REPORT_EVERY = 8


def assemble_volume(
    instances: Sequence[InstanceRef],
    summary: SeriesSummary,
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    on_slice: OnSlice | None = None,
    time_point: int = 0,
    correct: bool = False,
) -> Volume:
    """Read and decode the pixels of one time point of a series.

    Parameters
    ----------
    instances : sequence of InstanceRef
        The files of one displayable group. Those of one time point may have any order; time points follow each other.
    summary : SeriesSummary
        What the index knows of the group; its issues are kept.
    on_slice : callable or None
        Called in the calling thread with (k, geometry, pixels) as soon as a slice is complete, the middle
        slice first; ``pixels`` is a read-only copy ``(J, I)`` or ``(J, I, 3)`` in the volume's units. Where slices
        are moved by ``correct``, called once with the middle slice of the outcome.
    time_point : int
        Which time point, from 0.
    correct : bool
        Resample a stack with gantry tilt, irregular steps or missing slices onto a regular grid with perpendicular
        axes (told by issues); otherwise it is as acquired.

    Returns
    -------
    Volume
        With the modality LUT applied.

    Raises
    ------
    InputError
        When a file is damaged, missing in part or compressed in a way that cannot be decoded.
    SafetyError
        When a file now holds another image than ``instances`` says.
    EnvironmentFault
        When a file cannot be read or the memory doesn't suffice.
    Cancelled
        When ``cancel`` is set.
    """
    if not instances:
        raise InputError("series.empty", "The series has no images.", "Import the study again.")
    chosen = of_time_point(instances, summary, time_point)
    headers = [_header(instance, cancel) for instance in chosen]
    _check_uniform(headers)
    layout = lay_out(headers, time_point)
    moves = correct and needs_straightening(layout.geometry, layout.positions_mm)
    job = _Assembly(headers, layout, None if moves else on_slice)
    require_memory(prod(job.shape) * job.dtype.itemsize, "The series")
    volume = _volume(job, job.run(progress, cancel), summary, time_point)
    if not moves or layout.positions_mm is None:
        return volume
    volume = straightened(volume, layout.positions_mm)
    if on_slice is not None:
        middle = volume.geometry.shape_kji[0] // 2
        on_slice(middle, volume.geometry, volume.voxels[middle])
    return volume


def of_time_point(
    instances: Sequence[InstanceRef], summary: SeriesSummary, time_point: int
) -> Sequence[InstanceRef]:
    """Return the files of one time point; a multi-frame file holds them all.

    Raises
    ------
    InputError
        If the series has no such time point (``series.time_point``).
    """
    if not 0 <= time_point < max(1, summary.time_points):
        raise InputError(
            "series.time_point",
            f"The series has {summary.time_points} time points, not {time_point + 1}.",
            "Choose another time point.",
        )
    if summary.time_points <= 1 or len(instances) < summary.time_points:
        return instances
    if len(instances) % summary.time_points == 0:
        count = len(instances) // summary.time_points
    else:  # files out of reach are listed behind the others
        count = summary.shape_kji[0] if summary.shape_kji else 1
    return instances[time_point * count : (time_point + 1) * count] or instances[:count]


def _header(instance: InstanceRef, cancel: CancelToken | None) -> Header:
    if cancel is not None:
        cancel.raise_if_cancelled()
    with translated("Reading the header"):
        try:
            header = recall_header(instance.file)
        except (NotDicom, IsDicomdir):
            raise malformed("A file of the series is no longer a DICOM file.", "dicom.not_dicom") from None
    if instance.sop_instance_uid and header.sop_instance_uid != instance.sop_instance_uid:
        raise SafetyError(
            "series.file_changed",
            "A file of the series now holds another image than when it was imported.",
            "Import the study again from its source.",
        )
    return header


def _check_uniform(headers: Sequence[Header]) -> None:
    shapes = {(h.rows, h.columns, h.samples) for h in headers}
    if len(shapes) > 1:
        raise malformed(
            "The images of the series differ in Rows, Columns or Samples per Pixel.", "series.mixed_sizes"
        )
    if len(headers) > 1 and any(h.frames > 1 for h in headers):
        raise malformed("Several multi-frame files cannot form one volume.", "series.mixed_frames")
    if not all(h.has_pixels for h in headers):
        raise InputError(
            "dicom.no_pixels", "The object has no Pixel Data to show.", "Choose an image series."
        )


@dataclass
class _Assembly:
    headers: list[Header]
    layout: Layout
    on_slice: OnSlice | None

    def __post_init__(self) -> None:
        mosaic = self.layout.mosaic
        self.readers: list[PixelReader] = [
            PixelReader(h) if mosaic is None else TileReader(h, mosaic) for h in self.headers
        ]
        first = self.headers[0]
        self.palette = first.photometric == "PALETTE COLOR"
        self.colour = self.palette or first.samples > 1
        self.table = None if self.colour else modality_table(first)
        self.rescales = [
            rescale_of(self.headers[n], 0 if mosaic is not None else f - 1) for n, f in self.layout.frames
        ]
        self.overflow = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.layout.geometry.shape_kji, 3) if self.colour else self.layout.geometry.shape_kji

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the array that slices are written to."""
        if self.colour:
            return np.dtype(np.uint8)
        if self.table is not None:
            fits = self.table.values.max() <= 32767
            return np.dtype(np.int16 if fits else np.int32)
        widest = max(self.headers, key=lambda h: h.bits_stored)
        signed = {h.signed for h in self.headers}
        dtypes = [
            output_dtype(self.rescales, reader.stored_dtype, widest.bits_stored, is_signed)
            for is_signed in signed
            for reader in self.readers[:1]
        ]
        chosen = np.result_type(*dtypes)
        return np.dtype(np.float32) if chosen.kind == "f" else chosen

    def run(self, progress: Progress, cancel: CancelToken | None) -> NDArray:
        """Decode all frames in a few threads, the middle one first; return the array."""
        with memory_guarded("Loading the series"):
            out = np.empty(self.shape, dtype=self.dtype)
        total = len(self.layout.frames)
        self.low = np.zeros(total, dtype=np.int64)
        self.high = np.zeros(total, dtype=np.int64)
        middle = total // 2
        self._decode(middle, out)
        self._show(middle, out)
        done = 1
        for k in in_parallel(lambda k: self._decode(k, out), [k for k in range(total) if k != middle]):
            if cancel is not None:
                cancel.raise_if_cancelled()
            self._show(k, out)
            done += 1
            if done % _REPORT_EVERY == 0:
                progress("Reading slices", done / total)
        progress("Reading slices", 1.0)
        return self._settled(out)

    def _show(self, k: int, out: NDArray) -> None:
        if self.on_slice is not None:
            picture = self._true_values(out[k], k)
            picture.flags.writeable = False
            self.on_slice(k, self.layout.geometry, picture)

    def _decode(self, k: int, out: NDArray) -> None:
        """Fill slice k of ``out``."""
        index, frame = self.layout.frames[k]
        header, reader = self.headers[index], self.readers[index]
        with translated(f"Decoding slice {k + 1}", "dicom.undecodable"):
            if self._wraps and reader.is_plain and reader.stored_dtype.itemsize == 2:
                target = out[k].view(reader.stored_dtype)
                reader.read_plain_into(frame - 1, target)
                self._shift(k, target, out[k])
                return
            stored = reader.decode(frame - 1)
            if self.colour:
                out[k] = to_rgb(header, stored) if self.palette else _rgb8(stored, header.bits_stored)
            elif self.table is not None:
                out[k] = self.table.apply(stored)
            elif self._wraps and stored.dtype.itemsize == 2:
                out[k] = stored.view(np.int16)
                self._shift(k, stored, out[k])
            else:
                self._scale(k, stored, out)

    @property
    def _wraps(self) -> bool:
        """Whether values are kept modulo 65536 in int16 until their range is known (slope 1)."""
        return self.dtype == np.int16 and self.table is None and all(slope == 1 for slope, _ in self.rescales)

    def _shift(self, k: int, stored: NDArray, target: NDArray) -> None:
        """Bound the range of a slice, then add the intercept modulo 65536.

        Only the end that could leave int16 is looked for; the other one is what the type allows.
        """
        intercept = int(self.rescales[k][1])
        limits = np.iinfo(stored.dtype)
        low, high = limits.min + intercept, limits.max + intercept
        if high > 32767:
            high = int(stored.max()) + intercept
        if low < -32768 or high > 32767:
            low = int(stored.min()) + intercept
        self.low[k], self.high[k] = low, high
        if intercept:
            np.add(target, np.int64(intercept).astype(np.int16), out=target)

    def _scale(self, k: int, stored: NDArray, out: NDArray) -> None:
        slope, intercept = self.rescales[k]
        if self.dtype.kind == "f":
            # float64 so that each value is rounded once
            out[k] = (
                stored * np.float64(slope) + np.float64(intercept) if (slope, intercept) != (1, 0) else stored
            )
            return
        out[k] = stored.astype(np.int64) * int(slope) + int(intercept)
        self.low[k], self.high[k] = int(out[k].min()), int(out[k].max())

    def _true_values(self, values: NDArray, k: int) -> NDArray:
        """Return a copy of a slice with its wrapped values undone."""
        if self._wraps and self.high[k] > 32767:
            return (values.astype(np.int32) - int(self.low[k])) % 65536 + int(self.low[k])
        if self._wraps and self.low[k] < -32768:
            return (values.astype(np.int32) - int(self.low[k])) % 65536 + int(self.low[k])
        return values.copy()

    def _settled(self, out: NDArray) -> NDArray:
        """Choose the final dtype now that the range is known: int16, uint16 or int32."""
        if not self._wraps:
            return out
        low, high = int(self.low.min()), int(self.high.max())
        if low >= -32768 and high <= 32767:
            return out
        if low >= 0 and high <= 65535:
            return out.view(np.uint16)
        wide = np.empty(out.shape, dtype=np.int32)
        for k in range(len(out)):
            wide[k] = self._true_values(out[k], k)
        return wide


def _rgb8(stored: NDArray, bits_stored: int) -> NDArray:
    """Return 8-bit RGB."""
    rgb = stored[..., :3]
    return rgb if rgb.dtype == np.uint8 else (rgb >> max(0, bits_stored - 8)).astype(np.uint8)


def _volume(job: _Assembly, voxels: NDArray, summary: SeriesSummary, time_point: int) -> Volume:
    ordered = [(job.headers[n], f) for n, f in job.layout.frames]
    middle, middle_frame = ordered[len(ordered) // 2]
    of_file = 0 if job.layout.mosaic is not None else middle_frame - 1
    uptake = _uptake(job.headers) if summary.modality == "PT" else None
    padding = middle.elements.number(0x00280120)
    slope, intercept = job.rescales[len(ordered) // 2]
    return Volume(
        geometry=job.layout.geometry,
        voxels=voxels,
        modality=summary.modality,
        series_uid=summary.series_uid,
        study_uid=summary.study_uid,
        units=units_of(middle),
        body_part=summary.body_part,
        description=summary.description,
        sop_instance_uids=tuple(h.sop_instance_uid for h, _ in ordered),
        frame_numbers=tuple(1 if job.layout.mosaic is not None else f for _, f in ordered),
        sop_class_uid=middle.sop_class_uid,
        windows=windows_of(middle, of_file),
        inverted=middle.photometric == "MONOCHROME1",
        lossy=any(h.lossy for h in job.headers),
        issues=_issues(summary.issues, job, uptake),
        padding_value=None if padding is None or job.colour else padding * slope + intercept,
        extra=_extra(middle),
        time_point=time_point,
        time_points=max(1, summary.time_points),
        slice_times_ms=job.layout.slice_times_ms,
        frame_times_ms=() if job.layout.positioned else frame_times_ms(middle),
        suvbw_factor=uptake.value if uptake else None,
        positioned=job.layout.positioned,
    )


def _uptake(headers: Sequence[Header]) -> SuvFactor:
    with translated("Reading what SUV needs"):
        return suv_factor(headers)


def _issues(
    known: tuple[SeriesIssue, ...], job: _Assembly, uptake: SuvFactor | None
) -> tuple[SeriesIssue, ...]:
    found = job.layout.issues + ((uptake.issue,) if uptake and uptake.issue else ())
    codes = {issue.code for issue in known}
    return known + tuple(issue for issue in found if issue.code not in codes)


def _extra(header: Header) -> dict[str, str]:
    values = {
        "patient_orientation": "\\".join(header.elements.texts(0x00200020)),
        "pet_units": header.elements.text(0x00541001),
        "transfer_syntax": header.parsed.syntax.name,
    }
    return {name: value for name, value in values.items() if value}
