"""Pictures of trainings: grids, PNG and GIF files, both stacks side by side, contact sheets, curves.

Everything takes numpy arrays and knows nothing of recipes or stacks. Files are written atomically.
"""

from pygan.pictures.contact_sheet import chosen_steps, write_contact_sheet
from pygan.pictures.gif import Gif, frame_milliseconds, read_gif, write_gif
from pygan.pictures.grid import PictureError, grid, pixels, split
from pygan.pictures.plots import Series, divergence_plot, loss_plot, losses_of_runs_plot
from pygan.pictures.png import file_name, picture_files, read_png, write_png
from pygan.pictures.side_by_side import SideBySideFrame, compose, write_side_by_side

__all__ = [
    "Gif",
    "PictureError",
    "Series",
    "SideBySideFrame",
    "chosen_steps",
    "compose",
    "divergence_plot",
    "file_name",
    "frame_milliseconds",
    "grid",
    "loss_plot",
    "losses_of_runs_plot",
    "picture_files",
    "pixels",
    "read_gif",
    "read_png",
    "split",
    "write_contact_sheet",
    "write_gif",
    "write_png",
    "write_side_by_side",
]
