//! Training of whole networks, compared with PyTorch and with itself.

mod blocks;
mod goldens;
mod properties;
mod tiny;
