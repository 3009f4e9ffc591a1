"""Per-frame geometry and rescale of enhanced multi-frame objects. Source: DICOM PS3.3 C.7.6.16."""

from __future__ import annotations

from dataclasses import dataclass

from core.dicom.elements import Elements

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_POSITION, _ORIENTATION, _MEASURES = 0x00209113, 0x00209116, 0x00289110
_TRANSFORMATION, _VOI, _CONTENT = 0x00289145, 0x00289132, 0x00209111
_CARDIAC, _DIFFUSION, _ECHO, _FRAME_TYPE = 0x00189118, 0x00189117, 0x00189114, 0x00189226
_MOST_FRAMES = 100_000


@dataclass(frozen=True, slots=True)
class FramePlane:
    """Where one frame lies and how its values are rescaled; empty tuples where the object is silent.

    ``stack`` is Stack ID and position in it; ``index`` Dimension Index Values. The last fields tell frames of one
    position apart: time in the order of counting, milliseconds after the R wave, s/mm², milliseconds.
    """

    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    pixel_spacing: tuple[float, ...] = ()
    slope: float | None = None
    intercept: float | None = None
    rescale_type: str = ""
    window_centers: tuple[float, ...] = ()
    window_widths: tuple[float, ...] = ()
    stack: tuple[str, int | None] = ("", None)
    window_function: str = ""
    index: tuple[float, ...] = ()
    temporal_position: float | None = None
    trigger_ms: float | None = None
    b_value: float | None = None
    echo_ms: float | None = None
    frame_type: str = ""


def read_planes(elements: Elements, frames: int) -> tuple[FramePlane, ...]:
    """Return one FramePlane per frame; what a frame does not state comes from the shared groups."""
    shared_items = elements.items(_SHARED)
    shared = shared_items[0] if shared_items else Elements()
    per_frame = elements.items(_PER_FRAME)[:frames]
    if not per_frame:
        return (_plane(shared, Elements()),) * frames if shared.raw and frames < _MOST_FRAMES else ()
    return tuple(_plane(shared, item) for item in per_frame)


def _plane(shared: Elements, own: Elements) -> FramePlane:
    def group(tag: int) -> Elements:
        items = own.items(tag) or shared.items(tag)
        return items[0] if items else Elements()

    transformation, voi, content = group(_TRANSFORMATION), group(_VOI), group(_CONTENT)
    temporal, trigger = content.number(0x00209128), group(_CARDIAC).number(0x00209153)
    return FramePlane(
        position=group(_POSITION).numbers(0x00200032),
        orientation=group(_ORIENTATION).numbers(0x00200037),
        pixel_spacing=group(_MEASURES).numbers(0x00280030)[:2],
        slope=transformation.number(0x00281053),
        intercept=transformation.number(0x00281052),
        rescale_type=transformation.text(0x00281054),
        window_centers=voi.numbers(0x00281050),
        window_widths=voi.numbers(0x00281051),
        stack=(content.text(0x00209056), content.integer(0x00209057)),
        window_function=voi.text(0x00281056).upper(),
        index=content.numbers(0x00209157),
        temporal_position=temporal,
        trigger_ms=trigger,
        b_value=group(_DIFFUSION).number(0x00189087),
        echo_ms=group(_ECHO).number(0x00189082),
        frame_type=group(_FRAME_TYPE).text(0x00089007),
    )
