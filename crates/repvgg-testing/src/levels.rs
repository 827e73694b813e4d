use crate::skip;

/// The instruction sets of this processor: the level that `named` finds for each of `names`, if there is one.
///
/// The type of a level is a parameter, because the unit tests of the kernels compile a `Level` of their own.
///
/// # Panics
/// When the processor lacks a level that `REQUIRE_LEVELS` lists, or the level does not exist.
pub fn available_levels<L>(names: &[&str], named: impl Fn(&str) -> Option<L>) -> Vec<L> {
    let required = std::env::var("REQUIRE_LEVELS").unwrap_or_default();
    let required: Vec<&str> = required.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = required.iter().find(|name| !names.contains(name)) {
        panic!("REQUIRE_LEVELS: expected some of {}, found {unknown}", names.join(", "));
    }
    let find = |name: &&str| {
        let level = named(name);
        if level.is_none() {
            assert!(!required.contains(name), "REQUIRE_LEVELS: this processor lacks {name}");
            skip(&format!("this processor lacks {name}"));
        }
        level
    };
    names.iter().filter_map(find).collect()
}
