//! Bytes as choices: the grammar half of every body. Any bytes make some input; running out of them
//! ends it.

/// What is left of the bytes.
pub struct Source<'a>(&'a [u8]);

/// Deepest object that the grammar writes: one beyond what core reads.
const DEEPEST: usize = 17;

impl<'a> Source<'a> {
    /// All of the bytes.
    pub fn new(data: &'a [u8]) -> Self {
        Source(data)
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// Whether bytes are left.
    pub fn has_more(&self) -> bool {
        !self.0.is_empty()
    }

    /// What is left, at most `most` bytes of it.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// One of the words; the empty one of none.
    pub fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        let position = usize::from(self.byte()) % words.len().max(1);
        words.get(position).copied().unwrap_or_default()
    }

    /// Up to `most` words one after another, now and then a stray character between them.
    pub fn blend(&mut self, words: &[&str], most: usize) -> String {
        let mut text = String::new();
        for _ in 0..most {
            if !self.has_more() {
                break;
            }
            match self.byte() {
                0..240 => text.push_str(self.pick(words)),
                _ => text.push(char::from(self.byte())),
            }
        }
        text
    }

    /// A JSON object of these names and raw values: sometimes nested, sometimes with a member
    /// twice, sometimes broken.
    pub fn object(&mut self, names: &[&str], values: &[&str]) -> String {
        let mut text = self.level(names, values, 1);
        if self.byte() >= 250 {
            text.push(char::from(self.byte()));
        }
        text
    }

    fn level(&mut self, names: &[&str], values: &[&str], depth: usize) -> String {
        let mut members = Vec::new();
        for _ in 0..self.byte() % 12 {
            let name = self.pick(names);
            let value = match self.byte() {
                0..16 if depth < DEEPEST => self.level(names, values, depth + 1),
                16..32 if depth < DEEPEST => format!("[{}]", self.level(names, values, depth + 1)),
                32..40 => i64::from_le_bytes([self.byte(); 8]).to_string(),
                _ => self.pick(values).to_owned(),
            };
            members.push(format!("\"{name}\":{value}"));
        }
        format!("{{{}}}", members.join(","))
    }
}
