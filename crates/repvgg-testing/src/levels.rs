use crate::skip;

/// The instruction sets of this processor: for each of `names`, what `named` finds.
///
/// The type of a level is a parameter, because the kernels' own tests compile a `Level` of their own.
///
/// # Panics
/// When a level that `REQUIRE_LEVELS` lists is missing, or does not exist.
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
