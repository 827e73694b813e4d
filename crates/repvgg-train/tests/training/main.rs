//! Training whole networks: against PyTorch, against themselves.

mod goldens;
mod properties;
mod tiny;
