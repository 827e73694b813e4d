//! A fence around libraries that read untrusted bytes: a panic inside one becomes an error of the file that caused it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside [`fenced`].
    static FENCED: Cell<bool> = const { Cell::new(false) };
}

/// The result of `act`, or the message of its panic, which is not printed.
///
/// `act` must own what it changes: after a panic, nothing of it is used again.
pub(crate) fn fenced<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    silence_fenced_panics();
    let outer = FENCED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(act));
    FENCED.set(outer);
    result.map_err(|panic| message(&*panic))
}

/// Makes the panic hook pass over panics inside a fence. Other panics still reach the hook that was set before.
fn silence_fenced_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let outer = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !FENCED.try_with(Cell::get).unwrap_or(false) {
                outer(panic);
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_its_message_and_the_thread_goes_on() {
        assert_eq!(fenced(|| 7), Ok(7));
        assert_eq!(fenced(|| -> u8 { panic!("row {} is missing", 3) }), Err("row 3 is missing".to_owned()));
        assert_eq!(fenced(|| -> u8 { panic!("plain") }), Err("plain".to_owned()));
        assert_eq!(fenced(|| fenced(|| -> u8 { panic!("inner") })), Ok(Err("inner".to_owned())));
        assert!(!FENCED.get());
    }
}
