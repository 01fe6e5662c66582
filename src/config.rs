//! Every setting: its name, default and meaning stand in one table.
