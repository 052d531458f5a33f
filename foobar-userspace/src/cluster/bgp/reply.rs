//! What BIRD answers on its control socket, line by line. Pure.
//!
//! A line begins with a code of four digits, which a blank follows if it is the answer's last one and a hyphen
//! otherwise; one that begins with a blank has the code of the line before it, one that begins with `+` is no part of
//! an answer. (BIRD's programmer's documentation, "Command line interface".)

/// An answer: its lines with their codes. It has one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// All lines but those without text.
    pub(super) lines: Vec<(u16, String)>,
    /// The code of the last line.
    pub(super) code: u16,
}

impl Reply {
    /// Whether it refuses what was asked (8xxx: it can't be done; 9xxx: it was not understood).
    pub(super) const fn is_refusal(&self) -> bool {
        self.code >= 8_000
    }

    /// The lines with a code.
    pub(super) fn of(&self, code: u16) -> impl Iterator<Item = &str> {
        let lines = self.lines.iter().filter(move |(has, _)| *has == code);
        lines.map(|(_, text)| text.as_str())
    }

    /// What it says at its end.
    pub(super) fn last(&self) -> &str {
        self.lines.last().map_or("", |(_, text)| text.as_str())
    }
}

/// Puts lines together to answers.
#[derive(Debug, Default)]
pub(super) struct Reader {
    lines: Vec<(u16, String)>,
    code: u16,
}

/// A line that BIRD does not write.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("BIRD's control socket says {0:?}")]
pub(super) struct Nonsense(String);

impl Reader {
    /// Takes a line, without its line feed; the answer, where this was its last one.
    ///
    /// # Errors
    /// The line is none of an answer.
    pub(super) fn line(&mut self, line: &str) -> Result<Option<Reply>, Nonsense> {
        if line.starts_with('+') {
            return Ok(None);
        }
        if let Some(text) = line.strip_prefix(' ') {
            if !text.is_empty() {
                self.lines.push((self.code, text.to_owned()));
            }
            return Ok(None);
        }
        let nonsense = || Nonsense(line.to_owned());
        let (code, text) = line.split_at_checked(4).ok_or_else(nonsense)?;
        self.code = code
            .bytes()
            .all(|c| c.is_ascii_digit())
            .then(|| code.parse().ok())
            .flatten()
            .ok_or_else(nonsense)?;
        let is_last = match text.as_bytes().first() {
            Some(b' ') => true,
            Some(b'-') => false,
            _ => return Err(nonsense()),
        };
        let text = &text[1..];
        if !text.is_empty() {
            self.lines.push((self.code, text.to_owned()));
        }
        Ok(is_last.then(|| Reply {
            lines: std::mem::take(&mut self.lines),
            code: self.code,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers in a text.
    pub(in super::super) fn replies(text: &str) -> Vec<Reply> {
        let mut reader = Reader::default();
        let lines = text
            .lines()
            .filter_map(|line| reader.line(line).expect("BIRD's lines"));
        lines.collect()
    }

    #[test]
    fn lines_have_codes_of_their_own_or_of_the_line_before() {
        let found = replies("0001 BIRD 2.0.12 ready.\n1020-watch:\n IP address\n+echo\n 192.0.2.1\n0000 \n");
        let line = |code, text: &str| (code, text.to_owned());
        let expected = [
            Reply {
                lines: vec![line(1, "BIRD 2.0.12 ready.")],
                code: 1,
            },
            Reply {
                lines: vec![
                    line(1020, "watch:"),
                    line(1020, "IP address"),
                    line(1020, "192.0.2.1"),
                ],
                code: 0,
            },
        ];
        assert_eq!(found, expected);
        assert_eq!(found[1].of(1020).count(), 3);
        assert!(!found[1].is_refusal());
    }

    #[test]
    fn refusals_are_told_by_their_codes() {
        let found = replies(
            "0002-Reading configuration from bird.conf\n8002 bird.conf:3:1 syntax error\n\
             9001 syntax error, unexpected CF_SYM_UNDEFINED\n0002-Reading configuration\n0003 Reconfigured\n",
        );
        let refused: Vec<bool> = found.iter().map(Reply::is_refusal).collect();
        assert_eq!(refused, [true, true, false]);
        assert_eq!(found[0].last(), "bird.conf:3:1 syntax error");
    }

    #[test]
    fn what_is_no_line_of_birds_is_an_error() {
        for line in ["", "12", "HTTP/1.1 200 OK", "12a4 x", "0000", "+123x"] {
            let found = Reader::default().line(line);
            let is_nonsense = found == Err(Nonsense(line.to_owned()));
            assert_eq!(is_nonsense, !line.starts_with('+'), "{line:?}: {found:?}");
        }
    }
}
