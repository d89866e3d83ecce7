"""Recordings: frames in time order, read from the files that people have."""

from tickcell.model.recording.blocks import Block as Block
from tickcell.model.recording.errors import RecordingError as RecordingError
from tickcell.model.recording.layout import Layout as Layout
from tickcell.model.recording.opening import STANDARD_INPUT as STANDARD_INPUT
from tickcell.model.recording.opening import open_recording as open_recording
from tickcell.model.recording.reader import Reader as Reader
from tickcell.model.recording.resampling import Resampling as Resampling
from tickcell.model.recording.whole import Recording as Recording
from tickcell.model.recording.whole import gather as gather
from tickcell.model.recording.whole import read as read
from tickcell.model.recording.whole import read_all as read_all
from tickcell.model.recording.whole import resample as resample
from tickcell.model.recording.whole import write_csv as write_csv

__all__ = [
    "STANDARD_INPUT",
    "Block",
    "Layout",
    "Reader",
    "Recording",
    "RecordingError",
    "Resampling",
    "gather",
    "open_recording",
    "read",
    "read_all",
    "resample",
    "write_csv",
]
