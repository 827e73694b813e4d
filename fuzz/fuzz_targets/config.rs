//! Any bytes as a repository's `config.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repvgg::checkpoint::read_config;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = read_config(bytes) {
        if let Some(preprocessing) = config.preprocessing {
            preprocessing.check().expect("preprocessing that was read can be applied");
        }
    }
});
