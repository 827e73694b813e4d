//! Tables with footnotes, as aligned text, Markdown or comma-separated values.
//!
//! Written by hand: no table crate aligns numbers that have footnote marks, or writes one table in all three formats.

use anyhow::Context;

use crate::output::{print, print_json, table};

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// The name in comma-separated values.
    pub(crate) key: &'static str,
    /// The heading in text and Markdown, which omit columns without one.
    pub(crate) heading: Option<&'static str>,
}

/// A cell of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    /// The content in text and Markdown.
    pub(crate) text: String,
    /// The content in comma-separated values.
    pub(crate) value: String,
    /// The footnotes.
    pub(crate) notes: Vec<String>,
}

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Sheet {
    pub(crate) title: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// Paragraphs below the footnotes.
    pub(crate) remarks: Vec<String>,
}

/// The output format of a table.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Format {
    /// Print one JSON array with an object for each row
    #[arg(long)]
    json: bool,
    /// Print comma-separated values with a header line
    #[arg(long)]
    csv: bool,
    /// Print a Markdown table with footnotes
    #[arg(long)]
    markdown: bool,
}

impl Format {
    /// Prints a table. `values` holds its rows as JSON.
    pub(crate) fn print(self, values: &serde_json::Value, sheet: &Sheet) -> anyhow::Result<()> {
        match self {
            Self { json: true, .. } => print_json(values),
            Self { csv: true, .. } => print(&sheet.csv()?),
            Self { markdown: true, .. } => print(&sheet.markdown()),
            _ => print(&sheet.text()),
        }
    }
}

/// The maximum width of footnotes and remarks, in characters.
const WIDTH: usize = 130;

impl Cell {
    /// A cell with the same content in all formats.
    pub(crate) fn same(text: impl ToString) -> Self {
        Self::new(text.to_string(), text.to_string())
    }

    pub(crate) fn new(text: String, value: impl ToString) -> Self {
        Self { text, value: value.to_string(), notes: Vec::new() }
    }

    /// A cell with a formatted value. Without a value, a dash in text and an empty CSV field.
    pub(crate) fn or_none<T: ToString>(value: Option<T>, text: impl Fn(&T) -> String) -> Self {
        value.map_or_else(|| Self::new("-".to_owned(), ""), |value| Self::new(text(&value), value))
    }

    pub(crate) fn noted(mut self, note: Option<impl Into<String>>) -> Self {
        self.notes.extend(note.map(Into::into));
        self
    }
}

impl Sheet {
    pub(crate) fn text(&self) -> String {
        let notes = self.notes();
        let (header, rows) = self.readable(&notes);
        let mut text = format!("{}\n\n{}", self.title, table(&header, &rows));
        let notes = notes.iter().enumerate().map(|(index, note)| format!("{} {note}", superscript(index + 1)));
        let paragraphs: Vec<String> = notes.chain(self.remarks.iter().cloned()).collect();
        if !paragraphs.is_empty() {
            text.push('\n');
        }
        for paragraph in paragraphs {
            wrap(&paragraph, WIDTH).iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }

    pub(crate) fn markdown(&self) -> String {
        let notes = self.notes();
        let (header, rows) = self.readable(&notes);
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("**{}**\n\n", markdown(&self.title));
        text.push_str(&line(header.iter().map(|heading| markdown(heading)).collect()));
        let rule = |column| if column == 0 { "---" } else { "---:" }.to_owned();
        text.push_str(&line((0..header.len()).map(rule).collect()));
        rows.iter().for_each(|row| text.push_str(&line(row.iter().map(|cell| markdown(cell.trim_end())).collect())));
        for (index, note) in notes.iter().enumerate() {
            text.push_str(&format!("\n{} {}\n", superscript(index + 1), markdown(note)));
        }
        self.remarks.iter().for_each(|remark| text.push_str(&format!("\n{}\n", markdown(remark))));
        text
    }

    /// Comma-separated values with a header line. The last column holds the notes of each row.
    pub(crate) fn csv(&self) -> anyhow::Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let write = |writer: &mut csv::Writer<Vec<u8>>, record: Vec<&str>| {
            writer.write_record(record).context("comma-separated values")
        };
        write(&mut writer, self.columns.iter().map(|column| column.key).chain(["notes"]).collect())?;
        for row in &self.rows {
            let notes = row.iter().flat_map(|cell| cell.notes.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
            write(&mut writer, row.iter().map(|cell| cell.value.as_str()).chain([notes.as_str()]).collect())?;
        }
        let bytes = writer.into_inner().context("comma-separated values")?;
        String::from_utf8(bytes).context("comma-separated values")
    }

    /// The distinct footnotes of the columns with headings, in order of first reference.
    fn notes(&self) -> Vec<&str> {
        let mut notes: Vec<&str> = Vec::new();
        let shown = |row| self.columns.iter().zip(row).filter(|(column, _)| column.heading.is_some());
        for note in self.rows.iter().flat_map(shown).flat_map(|(_, cell): (_, &Cell)| &cell.notes) {
            if !notes.contains(&note.as_str()) {
                notes.push(note);
            }
        }
        notes
    }

    /// Headings, and cells with their footnote marks. All cells of a column reserve the same width for marks.
    fn readable(&self, notes: &[&str]) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let shown: Vec<usize> =
            (0..self.columns.len()).filter(|&column| self.columns[column].heading.is_some()).collect();
        let marks = |cell: &Cell| {
            let numbers = notes.iter().enumerate().filter(|(_, note)| cell.notes.iter().any(|own| own == *note));
            numbers.map(|(index, _)| superscript(index + 1)).collect::<Vec<_>>().join("\u{2009}")
        };
        let mark_width =
            |column: usize| self.rows.iter().map(|row| marks(&row[column]).chars().count()).max().unwrap_or(0);
        let mark_widths: Vec<usize> = (0..self.columns.len()).map(mark_width).collect();
        let cell = |row: &[Cell], column: usize| {
            let width = mark_widths[column];
            format!("{}{:<width$}", row[column].text, marks(&row[column]))
        };
        let header = shown.iter().filter_map(|&column| self.columns[column].heading).collect();
        let rows = self.rows.iter().map(|row| shown.iter().map(|&column| cell(row, column)).collect()).collect();
        (header, rows)
    }
}

fn superscript(number: usize) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    number.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect()
}

/// Escapes text so that Markdown shows it literally, in tables too.
fn markdown(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '|' | '\\' | '*' | '_' | '`' | '<' | '[' | ']' => escaped.extend(['\\', character]),
            '\n' => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Wraps `text` at spaces to lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let column = |key, heading| Column { key, heading };
        let noted = |text: &str, note: &str| Cell::same(text).noted(Some(note));
        Sheet {
            title: "A table".to_owned(),
            columns: vec![column("name", Some("name")), column("size", None), column("count", Some("a|b"))],
            rows: vec![
                vec![Cell::same("x"), noted("224", "For programs."), noted("1.5", "Not 1.4, but 1.5.")],
                vec![noted("y|z", "Odd."), Cell::same(300), Cell::or_none(None::<u64>, u64::to_string)],
                vec![Cell::same("long"), Cell::same(224), noted("12.0", "Not 1.4, but 1.5.").noted(Some("Odd."))],
            ],
            remarks: vec!["The end.".to_owned()],
        }
    }

    #[test]
    fn numbers_with_footnote_marks_are_aligned() {
        let text = "A table\n\nname       a|b\nx       1.5¹\ny|z²      -\nlong   12.0¹\u{2009}²\n\n¹ Not 1.4, but 1.5.\n² Odd.\nThe end.\n";
        assert_eq!(sheet().text(), text);
    }

    #[test]
    fn markdown_escapes_cell_separators() {
        let text = "**A table**\n\n| name | a\\|b |\n| --- | ---: |\n| x | 1.5¹ |\n| y\\|z² | - |\n| long | 12.0¹\u{2009}² |\n\
                    \n¹ Not 1.4, but 1.5.\n\n² Odd.\n\nThe end.\n";
        assert_eq!(sheet().markdown(), text);
    }

    #[test]
    fn comma_separated_values_are_quoted() {
        let text = "name,size,count,notes\nx,224,1.5,\"For programs. Not 1.4, but 1.5.\"\ny|z,300,,Odd.\nlong,224,12.0,\"Not 1.4, but 1.5. Odd.\"\n";
        assert_eq!(sheet().csv().unwrap(), text);
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("abcdef g", 4), ["abcdef", "g"]);
        assert_eq!(superscript(120), "¹²⁰");
    }
}
