//! Contact sheets: pictures with their predictions in one image.

use std::convert::Infallible;

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_10X20;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::text::{Baseline, Text};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

/// Small pictures are enlarged by a whole factor to at most this many pixels a side. Larger pictures keep their size.
const SIDE: u32 = 128;
const BORDER: u32 = 4;
/// The space around and between thumbnails.
const MARGIN: u32 = 14;
/// The width of a letter and the height of a line.
const LETTER: [u32; 2] = [FONT_10X20.character_size.width, FONT_10X20.character_size.height];
/// The space between a picture and its caption.
const GAP: u32 = 6;

const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([34, 34, 34]);
// A green and a red that colour-blind readers can distinguish (Okabe and Ito).
const GREEN: Rgb<u8> = Rgb([0, 158, 115]);
const RED: Rgb<u8> = Rgb([213, 94, 0]);

/// Whether a prediction is correct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The predicted class is that of the label.
    Right,
    /// The predicted class is another one.
    Wrong,
}

/// A picture with the network's prediction.
#[derive(Debug, Clone)]
pub(crate) struct Thumbnail {
    /// The picture, as the network saw it.
    pub(crate) image: RgbImage,
    /// The text below the picture. Lines break at spaces, but not at no-break spaces. Characters beyond Latin-1 are drawn
    /// as question marks.
    pub(crate) caption: String,
    /// The colour of the border: green if right, red if wrong.
    pub(crate) verdict: Verdict,
}

/// The geometry of a sheet, in pixels.
struct SheetLayout {
    columns: u32,
    /// Width and height of the largest picture with its border.
    picture: [u32; 2],
    /// Horizontal and vertical distance between neighbouring thumbnails.
    pitch: [u32; 2],
}

/// Draws thumbnails in rows of `columns`, in reading order, on white.
///
/// # Panics
/// When `columns` is zero.
pub(crate) fn contact_sheet(tiles: &[Thumbnail], columns: usize) -> RgbImage {
    assert!(columns > 0, "a contact sheet needs at least one column");
    let columns = columns.min(tiles.len());
    let layout = SheetLayout::new(tiles, columns as u32);
    let rows = tiles.len().div_ceil(columns.max(1));
    let [width, height] = [columns, rows].map(|count| count as u32);
    let mut sheet = RgbImage::from_pixel(MARGIN + width * layout.pitch[0], MARGIN + height * layout.pitch[1], PAPER);
    for (index, tile) in (0..).zip(tiles) {
        draw(&mut sheet, tile, index, &layout);
    }
    sheet
}

impl SheetLayout {
    fn new(tiles: &[Thumbnail], columns: u32) -> Self {
        let side = |axis: usize| tiles.iter().map(|tile| framed(&tile.image)[axis]).max().unwrap_or(0);
        let picture = [side(0), side(1)];
        let lines = tiles.iter().map(|tile| wrap(&tile.caption, letters_in(picture[0])).len()).max().unwrap_or(0);
        let caption = GAP + lines as u32 * LETTER[1];
        Self { columns, picture, pitch: [picture[0] + MARGIN, picture[1] + caption + MARGIN] }
    }

    /// The upper left corner of a thumbnail.
    fn corner(&self, index: u32) -> [u32; 2] {
        [index % self.columns * self.pitch[0] + MARGIN, index / self.columns * self.pitch[1] + MARGIN]
    }
}

fn draw(sheet: &mut RgbImage, tile: &Thumbnail, index: u32, layout: &SheetLayout) {
    let [left, top] = layout.corner(index);
    let size = framed(&tile.image);
    let at = [left + (layout.picture[0] - size[0]) / 2, top + (layout.picture[1] - size[1]) / 2];
    let colour = match tile.verdict {
        Verdict::Right => GREEN,
        Verdict::Wrong => RED,
    };
    fill(sheet, at, size, colour);
    // Pixels are repeated rather than smoothed, to show exactly what the network saw.
    let enlarged = imageops::resize(&tile.image, size[0] - 2 * BORDER, size[1] - 2 * BORDER, FilterType::Nearest);
    imageops::replace(sheet, &enlarged, i64::from(at[0] + BORDER), i64::from(at[1] + BORDER));
    let mut baseline = top + layout.picture[1] + GAP;
    for line in wrap(&tile.caption, letters_in(layout.picture[0])) {
        let width = line.chars().count() as u32 * LETTER[0];
        write(sheet, &line, [left + layout.picture[0].saturating_sub(width) / 2, baseline]);
        baseline += LETTER[1];
    }
}

/// The width and height of a picture after enlargement, with its border.
fn framed(image: &RgbImage) -> [u32; 2] {
    let (width, height) = image.dimensions();
    let factor = (SIDE / width.max(height).max(1)).max(1);
    [width, height].map(|side| side * factor + 2 * BORDER)
}

fn letters_in(width: u32) -> usize {
    (width / LETTER[0]).max(1) as usize
}

/// Wraps `text` to lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = Vec::new();
    for word in text.split(' ') {
        let word: Vec<char> = word.chars().collect();
        for (index, piece) in word.chunks(width).enumerate() {
            match lines.last_mut() {
                Some(line) if index == 0 && line.len() + 1 + piece.len() <= width => {
                    line.push(' ');
                    line.extend(piece);
                }
                _ => lines.push(piece.to_vec()),
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect()).collect()
}

/// A picture as a drawing target for text.
struct TextTarget<'a>(&'a mut RgbImage);

impl OriginDimensions for TextTarget<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for TextTarget<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, colour) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
                && let Some(pixel) = self.0.get_pixel_mut_checked(x, y)
            {
                *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

fn write(sheet: &mut RgbImage, line: &str, [left, top]: [u32; 2]) {
    let [red, green, blue] = INK.0;
    let style = MonoTextStyle::new(&FONT_10X20, Rgb888::new(red, green, blue));
    let place = Point::new(left as i32, top as i32);
    let Ok(_) = Text::with_baseline(line, place, style, Baseline::Top).draw(&mut TextTarget(sheet));
}

fn fill(sheet: &mut RgbImage, [left, top]: [u32; 2], [width, height]: [u32; 2], colour: Rgb<u8>) {
    let (right, bottom) = ((left + width).min(sheet.width()), (top + height).min(sheet.height()));
    for y in top..bottom {
        for x in left..right {
            sheet.put_pixel(x, y, colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLUE: Rgb<u8> = Rgb([0, 0, 200]);

    fn tile(width: u32, height: u32, caption: &str) -> Thumbnail {
        Thumbnail {
            image: RgbImage::from_pixel(width, height, BLUE),
            caption: caption.to_owned(),
            verdict: Verdict::Right,
        }
    }

    fn count(sheet: &RgbImage, colour: Rgb<u8>) -> u32 {
        sheet.pixels().filter(|&&pixel| pixel == colour).count() as u32
    }

    #[test]
    fn pictures_are_enlarged_by_whole_factors_and_framed() {
        let mut tiles = vec![tile(32, 32, "star 99 %"); 5];
        tiles[3].verdict = Verdict::Wrong;
        let sheet = contact_sheet(&tiles, 3);
        let border = (SIDE + 2 * BORDER).pow(2) - SIDE.pow(2);
        assert_eq!(count(&sheet, BLUE), 5 * SIDE * SIDE);
        assert_eq!(count(&sheet, GREEN), 4 * border);
        assert_eq!(count(&sheet, RED), border);
        let pitch = [SIDE + 2 * BORDER + MARGIN, SIDE + 2 * BORDER + GAP + LETTER[1] + MARGIN];
        assert_eq!(sheet.dimensions(), (MARGIN + 3 * pitch[0], MARGIN + 2 * pitch[1]));
        assert_eq!(*sheet.get_pixel(MARGIN, MARGIN + pitch[1]), RED);
    }

    #[test]
    fn captions_are_written_in_ink() {
        let ink = |caption| count(&contact_sheet(&[tile(32, 32, caption)], 1), INK);
        assert_eq!((ink(""), ink("\u{a0}")), (0, 0));
        assert!(ink("I") > 20 && ink("é") > ink("e"));
        assert_eq!(ink("I I"), 2 * ink("I"));
    }

    #[test]
    fn captions_stay_within_their_column() {
        let long = "an extraordinarily_long_name_of_a_class 100\u{a0}%";
        let sheet = contact_sheet(&[tile(32, 32, long), tile(3, 50, "#")], 8);
        assert_eq!(sheet.width(), MARGIN + 2 * (SIDE + 2 * BORDER + MARGIN));
        for (x, _, _) in sheet.enumerate_pixels().filter(|(_, _, pixel)| **pixel == INK) {
            let inside = (x - MARGIN) % (SIDE + 2 * BORDER + MARGIN);
            assert!(inside < SIDE + 2 * BORDER, "ink in column {x}");
        }
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("star 99\u{a0}%", 9), ["star 99\u{a0}%"]);
        assert_eq!(wrap("hexagon 99\u{a0}%", 9), ["hexagon", "99\u{a0}%"]);
        assert_eq!(wrap("  a  b ", 9), ["a b"]);
        assert_eq!(wrap("abcdefg hi", 3), ["abc", "def", "g", "hi"]);
        assert!(wrap("", 3).is_empty());
    }

    #[test]
    fn empty_sheets_and_unusual_sizes_work() {
        assert_eq!(contact_sheet(&[], 4).dimensions(), (MARGIN, MARGIN));
        let large = contact_sheet(&[tile(300, 200, "photo")], 4);
        assert_eq!(count(&large, BLUE), 300 * 200);
        let small = contact_sheet(&[tile(1, 1, "dot"), tile(0, 0, "none")], 1);
        assert_eq!(count(&small, BLUE), SIDE * SIDE);
    }
}
