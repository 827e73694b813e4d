//! Training of whole networks, compared with PyTorch and with itself.

mod blocks;
mod goldens;
mod properties;
mod tiny;

use std::sync::Arc;

use repvgg_kernels::ThreadPool;

fn pool() -> Arc<ThreadPool> {
    repvgg::engine::thread_pool(2).unwrap()
}
