"""Explanation → pictures: overlays on the photo, bars, a sheet with all of it, a figure, a page.

Every picture is a uint8 tensor [3,H,W] on the CPU; :func:`to_pil` makes a PIL image of it and
:func:`save_png` writes a file. Evidence for the target is blue, and evidence against it is orange.
These are the blue and the vermillion of Okabe and Ito (2008), which colour-blind readers can tell
apart. Text is in one typeface, Pillow's own, which needs no file; ``torchlime.plot._text`` says
which fonts write other scripts. Drawing runs on the host and reads the explanation back; it is not
part of the pipeline.

An ``image`` is a tensor [C,H,W] or [1,C,H,W], a numpy array [H,W,C] or [H,W], or a PIL image; it
has 1 channel (shown as grey), 3 (RGB) or 4 (RGBA, laid on white). Numbers are uint8 or floating
point; a numpy array may also be bool or uint16. Floats within [0,1] are taken as they are; any
other range, such as that of a normalised network input, is stretched to [0,1] by the image's own
minimum and maximum. A pixel with a non-finite channel is shown as mid-grey. PIL images are turned
upright.

With ``box``, an image is the whole photo, and the explained pixels are a part of it. ``box`` is
(left, top, right, bottom), as ``Classifier.crop_box`` gives it. The segments are laid on the photo
at its own resolution. The network did not see what lies outside of the box. So that part is
faded, and the box is framed.
"""

from torchlime.plot._canvas import AGAINST, FOR, Color
from torchlime.plot._evidence import Sign
from torchlime.plot.charts import bars
from torchlime.plot.figures import figure
from torchlime.plot.files import save_png, to_pil
from torchlime.plot.highlights import highlighted
from torchlime.plot.overlays import boundaries, heatmap_picture, overlay
from torchlime.plot.pages import page, save_page
from torchlime.plot.photos import Box, on_photo, photo, resized
from torchlime.plot.sheets import sheet, side_by_side

__all__ = [
    "AGAINST",
    "FOR",
    "Box",
    "Color",
    "Sign",
    "bars",
    "boundaries",
    "figure",
    "heatmap_picture",
    "highlighted",
    "on_photo",
    "overlay",
    "page",
    "photo",
    "resized",
    "save_page",
    "save_png",
    "sheet",
    "side_by_side",
    "to_pil",
]
