//! The log against a plain vector, through cuts and reopenings.
