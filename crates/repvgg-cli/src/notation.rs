//! Winograd's matrices as text and as LaTeX, Rust and NumPy literals, ready to paste.

use clap::ValueEnum;
use repvgg_kernels::winograd::{Derivation, Matrix, to_f64};

/// The output format of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Notation {
    /// Aligned fractions, with the proof, the costs and the error in f32
    Text,
    /// Displayed equations that need no package
    Latex,
    /// f64 constants
    Rust,
    /// float64 arrays
    Numpy,
}

/// A matrix with its names.
struct NamedMatrix<'a> {
    /// The symbol in text and in LaTeX.
    symbol: [&'static str; 2],
    /// The identifier in programs.
    name: &'static str,
    /// The meaning of its rows and columns.
    indices: &'static str,
    matrix: &'a Matrix,
}

/// The separators of a matrix literal.
struct Separators {
    between_entries: &'static str,
    before_row: &'static str,
    after_row: &'static str,
}

/// The separators of nested arrays in Rust and Python.
const NESTED_ARRAYS: Separators = Separators { between_entries: ", ", before_row: "    [", after_row: "],\n" };

/// Writes the three matrices of a derivation.
pub(crate) fn write(derivation: &Derivation, notation: Notation) -> String {
    let named = |symbol, name, indices, matrix| NamedMatrix { symbol, name, indices, matrix };
    let matrices = [
        named(["Aᵀ", r"A^{\mathsf{T}}"], "AT", "[output][point]", derivation.output()),
        named(["G", "G"], "G", "[point][tap]", derivation.filter()),
        named(["Bᵀ", r"B^{\mathsf{T}}"], "BT", "[point][input]", derivation.input()),
    ];
    let (m, r) = (derivation.outputs(), derivation.taps());
    let subject = format!("F({m}x{m}, {r}x{r}) from the points {}", points(derivation).join(", "));
    let all = |one: fn(&NamedMatrix<'_>) -> String, between: &str| matrices.each_ref().map(one).join(between);
    match notation {
        Notation::Text => format!("{subject}\n\n{}", all(text, "\n")),
        Notation::Latex => format!("% {subject}: Y = A^T [(G g G^T) . (B^T d B)] A\n{}", all(latex, "")),
        Notation::Rust => format!("// {subject}: Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A\n\n{}", all(rust, "\n")),
        Notation::Numpy => format!(
            "import numpy as np\n\n# {subject}: Y = AT @ ((G @ g @ G.T) * (BT @ d @ BT.T)) @ AT.T\n{}",
            all(numpy, "")
        ),
    }
}

/// The points, infinity last.
pub(crate) fn points(derivation: &Derivation) -> Vec<String> {
    derivation.points().iter().map(ToString::to_string).chain(["infinity".to_owned()]).collect()
}

fn text(named: &NamedMatrix<'_>) -> String {
    let cells: Vec<Vec<String>> =
        named.matrix.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..cells[0].len()).map(width).collect();
    let line = |row: &Vec<String>| -> String {
        row.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}")).collect::<String>() + "\n"
    };
    format!("{}\n{}", named.symbol[0], cells.iter().map(line).collect::<String>())
}

fn latex(named: &NamedMatrix<'_>) -> String {
    let entry = |x: &str, _| match x.split_once('/') {
        Some((numerator, denominator)) => {
            let (sign, numerator) = numerator.strip_prefix('-').map_or(("", numerator), |numerator| ("-", numerator));
            format!(r"{sign}\frac{{{numerator}}}{{{denominator}}}")
        }
        None => x.to_owned(),
    };
    // An array environment: a matrix of more than ten columns would need a setting.
    let columns = "r".repeat(named.matrix[0].len());
    let separators = Separators { between_entries: " & ", before_row: "", after_row: " \\\\\n" };
    let rows = rows(named.matrix, entry, &separators);
    format!("\\[\n{} = \\left[\\begin{{array}}{{{columns}}}\n{rows}\\end{{array}}\\right]\n\\]\n", named.symbol[1])
}

fn rust(named: &NamedMatrix<'_>) -> String {
    let entry = |x: &str, nearest: f64| match x.split_once('/').unwrap_or((x, "1")) {
        // Integers of up to 15 digits are exact floats, so their quotient is rounded only once.
        (numerator, denominator) if numerator.len().max(denominator.len()) > 15 => format!("{nearest:?}"),
        (numerator, "1") => format!("{numerator}.0"),
        (numerator, denominator) => format!("{numerator}.0 / {denominator}.0"),
    };
    let (height, width) = (named.matrix.len(), named.matrix[0].len());
    let rows = rows(named.matrix, entry, &NESTED_ARRAYS);
    let NamedMatrix { symbol, name, indices, .. } = named;
    format!("/// `{}`, `{indices}`.\nconst {name}: [[f64; {width}]; {height}] = [\n{rows}];\n", symbol[0])
}

fn numpy(named: &NamedMatrix<'_>) -> String {
    let rows = rows(named.matrix, |x, _| x.to_owned(), &NESTED_ARRAYS);
    format!("{} = np.array([\n{rows}], dtype=np.float64)\n", named.name)
}

/// Writes the rows of a matrix. `entry` formats an entry from its exact text, such as `1/2`, and the nearest float.
fn rows(matrix: &Matrix, entry: impl Fn(&str, f64) -> String, separators: &Separators) -> String {
    let Separators { between_entries, before_row, after_row } = separators;
    let rows = matrix.iter().zip(to_f64(matrix)).map(|(row, nearest)| {
        let entries: Vec<String> = row.iter().zip(nearest).map(|(x, nearest)| entry(&x.to_string(), nearest)).collect();
        format!("{before_row}{}{after_row}", entries.join(between_entries))
    });
    rows.collect()
}
