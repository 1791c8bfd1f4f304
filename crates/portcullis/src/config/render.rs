//! Faults as people read them: rule, message, `file:line:column`, the line with a caret, and what
//! to do. Plain unless colour is asked for, so that golden files and logs carry no escapes.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use portcullis_core::fault::{Fault, Place, Severity};

use super::loader::Sources;

/// Whether the text may carry terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Plain text.
    Never,
    /// Escapes, for a terminal.
    Always,
}

/// Renders faults in the order of the file, with an empty line between them.
pub(crate) fn render(faults: &[Fault], sources: &Sources, colour: Colour) -> String {
    let renderer = match colour {
        Colour::Never => Renderer::plain(),
        Colour::Always => Renderer::styled(),
    };
    let mut sorted: Vec<&Fault> = faults.iter().collect();
    sorted.sort_by_key(|fault| order(fault));
    let texts: Vec<String> = sorted.iter().map(|fault| one(fault, sources, &renderer)).collect();
    texts.join("\n")
}

/// Errors first, then by file and position; what stands nowhere comes last.
fn order(fault: &Fault) -> (Severity, bool, Option<(&str, usize)>) {
    let place = fault.place.as_ref().map(|place| (&*place.file, place.bytes.start));
    (fault.severity, place.is_none(), place)
}

fn one(fault: &Fault, sources: &Sources, renderer: &Renderer) -> String {
    let level = match fault.severity {
        Severity::Error => Level::ERROR,
        Severity::Gap => Level::WARNING.with_name("gap"),
    };
    let title = level.primary_title(fault.message.as_str()).id(fault.rule);
    let located = fault
        .place
        .as_ref()
        .and_then(|place| Some((place, sources.text(&place.file)?)))
        .map(|(place, text)| snippet(place, text));
    let group = match located {
        Some(snippet) => Group::with_title(title).element(snippet),
        None => Group::with_title(title),
    };
    // The remedy may quote the operator's words; the library takes messages as trusted text.
    let remedy = annotate_snippets::normalize_untrusted_str(&fault.remedy);
    let mut text = renderer.render(&[group.element(Level::HELP.message(remedy))]);
    text.push('\n');
    text
}

fn snippet<'t>(place: &'t Place, text: &'t str) -> Snippet<'t, annotate_snippets::Annotation<'t>> {
    let span = first_line(text, clamp(text, &place.bytes));
    Snippet::source(text).path(&*place.file).annotation(AnnotationKind::Primary.span(span))
}

/// A caret marks one line: a fault in a whole table points at where the table starts.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let length = text.get(span.clone()).and_then(|within| within.find('\n'));
    match length {
        Some(length) => span.start..span.start + length.max(1),
        None => span,
    }
}

/// A range inside the text and on character boundaries, whatever the place says: rendering a fault
/// must never be a fault.
fn clamp(text: &str, span: &Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

/// Line and column, from 1, of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..clamp(text, &(offset..offset)).start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        let mut sources = Sources::default();
        sources.insert("a.toml".into(), text.into());
        sources
    }

    fn fault(bytes: Range<usize>) -> Fault {
        let place = Place { file: "a.toml".into(), bytes };
        Fault::error("UnknownKey", place, "unknown key `ä`".into(), "did you mean `a`?".into())
    }

    #[test]
    fn a_fault_shows_rule_place_caret_and_remedy() {
        let text = render(&[fault(6..9)], &sources("a = 1\nbcd = 2\n"), Colour::Never);
        for part in ["error[UnknownKey]", "unknown key `ä`", "a.toml:2:1", "^^^", "help: did you"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert!(render(&[fault(6..9)], &sources("a = 1\nbcd"), Colour::Always).contains('\u{1b}'));
    }

    #[test]
    fn places_outside_the_text_are_shown_at_its_end() {
        for span in [900..905, 3..900, 1..2, 0..0] {
            assert!(render(&[fault(span)], &sources("ä = 1"), Colour::Never).contains("a.toml:1:"));
        }
        assert!(!render(&[fault(0..1)], &Sources::default(), Colour::Never).contains("a.toml"));
    }

    #[test]
    fn errors_come_before_gaps_and_each_in_the_files_order() {
        let mut gap = fault(0..1);
        (gap.severity, gap.rule) = (Severity::Gap, "ReviewPending");
        let text = render(&[gap, fault(4..5), fault(0..1)], &sources("a = b"), Colour::Never);
        let at = |part: &str| text.find(part).unwrap();
        assert!(at("a.toml:1:1") < at("a.toml:1:5") && at("a.toml:1:5") < at("gap[ReviewPending]"));
    }

    #[test]
    fn positions_count_from_one() {
        assert_eq!(position("ab\näc", 0), (1, 1));
        assert_eq!(position("ab\näc", 5), (2, 2));
        assert_eq!(position("ab", 900), (1, 3));
    }
}
