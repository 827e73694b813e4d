//! Reads arbitrary bytes as the `config.json` of a repository.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repvgg::formats::hub_config::read;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = read(bytes) {
        if let Some(preprocessing) = config.preprocessing {
            preprocessing.check().expect("accepted preprocessing is valid");
        }
    }
});
