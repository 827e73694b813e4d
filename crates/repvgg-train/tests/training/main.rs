//! Training whole networks: against PyTorch, against themselves.

mod blocks;
mod goldens;
mod properties;
mod tiny;
