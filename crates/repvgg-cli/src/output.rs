//! What goes to standard output, and the exit code of what went wrong.

use std::io::{self, Write};

use repvgg::ErrorKind;

/// Writes `text` to standard output; a closed pipe (`| head`) is no failure.
///
/// Control characters other than line ends are escaped: names and labels come from files and must not control a terminal.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_script(escape(text).as_bytes())
}

/// Writes bytes of our own making to standard output as they are.
pub(crate) fn print_script(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(anyhow::Error::new(error).context("standard output")),
        Ok(()) => Ok(()),
    }
}

/// The text without control characters other than line ends.
pub(crate) fn escape(text: &str) -> String {
    let escape = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// The longest message that is printed whole, in characters.
const LONGEST: usize = 1000;

/// A message on one line: names in it come from files and must not control a terminal, fake another line, or flood it.
pub(crate) fn line(sentence: &str) -> String {
    let line = escape(sentence).replace('\n', "\\n");
    let count = line.chars().count();
    if count <= LONGEST {
        return line;
    }
    let part = |skip: usize| line.chars().skip(skip).take(LONGEST / 2).collect::<String>();
    format!("{} … {}", part(0), part(count - LONGEST / 2))
}

/// Writes `value` as JSON on one line.
pub(crate) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value}\n"))
}

/// Columns of text, aligned: the first to the left, the others to the right. A table crate would bring borders, wrapping and
/// terminal detection to switch off.
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

/// 12345678 as `12,345,678`.
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

/// What went wrong in one sentence: the contexts, outermost first, down to the library's error, which tells its own causes.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<repvgg::Error>() {
            break;
        }
    }
    parts.join(": ")
}

/// 2 for a call that could never work, 1 for one that failed.
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
    fn sentences_stay_on_one_line_and_end() {
        assert_eq!(line("a\nerror: b\x1b[31m"), "a\\nerror: b\\u{1b}[31m");
        let long = line(&format!("file: {} end", "x".repeat(5000)));
        assert!(long.starts_with("file: xx") && long.ends_with("x end") && long.chars().count() < 1010);
    }

    #[test]
    fn a_cause_is_told_once() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = anyhow::Error::from(repvgg::Error::io("model", full)).context("not written");
        assert_eq!(sentence(&error), "not written: model: no storage space");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 8_309_384].map(thousands), ["0", "999", "1,000", "8,309,384"]);
    }
}
