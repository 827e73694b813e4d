//! Text output, error messages and exit codes.

use std::io::{self, Write};

use repvgg::ErrorKind;
use repvgg::image::PassedOver;

/// Writes `text` to standard output. A closed pipe (`| head`) is not an error.
///
/// Control characters other than line ends are escaped: names and labels come from files and must not control a terminal.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_script(escape(text).as_bytes())
}

/// Writes trusted bytes to standard output without escaping.
pub(crate) fn print_script(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(anyhow::Error::new(error).context("standard output")),
        Ok(()) => Ok(()),
    }
}

/// Escapes all control characters other than line ends.
pub(crate) fn escape(text: &str) -> String {
    let escape = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// The maximum length of a message in characters. Longer messages are shortened in the middle.
const MAX_MESSAGE: usize = 1000;

/// Formats a message on one line. Names in it come from files and must not control a terminal, fake another line, or flood it.
pub(crate) fn line(message: &str) -> String {
    let line = escape(message).replace('\n', "\\n");
    let count = line.chars().count();
    if count <= MAX_MESSAGE {
        return line;
    }
    let part = |skip: usize| line.chars().skip(skip).take(MAX_MESSAGE / 2).collect::<String>();
    format!("{} … {}", part(0), part(count - MAX_MESSAGE / 2))
}

/// Writes a remark about the input to standard error.
pub(crate) fn note(text: &str) {
    eprintln!("note: {}", line(text));
}

/// Writes a warning to standard error.
pub(crate) fn warn(text: &str) {
    eprintln!("warning: {}", line(text));
}

/// Writes to standard error which files of the folders of images were passed over, if any.
pub(crate) fn note_passed_over(passed_over: &PassedOver) {
    if !passed_over.is_empty() {
        note(&passed_over.to_string());
    }
}

/// Writes `value` as JSON on one line.
pub(crate) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value}\n"))
}

/// Formats aligned columns: the first to the left, the others to the right. Table crates add borders, wrapping and terminal
/// detection, none of which is wanted here.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| cell(row, column).chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let line: Vec<String> = (0..widths.len())
            .map(|column| {
                let width = widths[column];
                if column == 0 { format!("{:<width$}", cell(row, 0)) } else { format!("{:>width$}", cell(row, column)) }
            })
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Formats 12345678 as `12,345,678`.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The error as one message: its contexts, outermost first, and the library's error, which includes its own causes.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<repvgg::Error>() {
            break;
        }
    }
    parts.join(": ")
}

/// The exit code of an error: 2 for invalid arguments, 1 for any other failure.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<repvgg::Error>().map(repvgg::Error::kind) {
        Some(ErrorKind::Spec) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "23".to_owned()]];
        assert_eq!(table(&["name", "n"], &rows), "name   n\na      1\nlong  23\n");
    }

    #[test]
    fn messages_are_one_line_of_limited_length() {
        assert_eq!(line("a\nerror: b\x1b[31m"), "a\\nerror: b\\u{1b}[31m");
        let long = line(&format!("file: {} end", "x".repeat(5000)));
        assert!(long.starts_with("file: xx") && long.ends_with("x end") && long.chars().count() < 1010);
    }

    #[test]
    fn a_cause_is_reported_once() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = anyhow::Error::from(repvgg::Error::io("model", full)).context("not written");
        assert_eq!(message(&error), "not written: model: no storage space");
    }

    #[test]
    fn thousands_are_separated_by_commas() {
        assert_eq!([0, 999, 1000, 8_309_384].map(thousands), ["0", "999", "1,000", "8,309,384"]);
    }
}
