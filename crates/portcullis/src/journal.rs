//! The journal: where decision records go. One writer thread behind a bounded queue; the request
//! path never waits for it. A full queue drops the record and counts it: `/metrics` tells.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use portcullis_core::audit::{Record, Records};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Most records that wait for the writer, about 30 MB at worst: its pause at 1.6 million requests a
/// second. Tokio's channel grows by blocks, where the standard library's would hold the whole queue
/// from the start (11 MB of an idle server).
const QUEUE: usize = 32 * 1024;
/// Bytes gathered before a write.
const BATCH_BYTES: usize = 64 * 1024;
/// How long the first record of a write waits for company: one write for many lines under load.
const GATHER: Duration = Duration::from_millis(20);

/// Longest that the end waits for whoever still holds the journal.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the end looks whether the writer is done.
const STEP: Duration = Duration::from_millis(5);

/// How records are written.
pub(crate) enum Form {
    /// One JSON object per line.
    Json,
    /// Columns, for a person at a terminal.
    Readable,
}

/// The journal's front: cheap to share.
pub(crate) struct Journal {
    queue: Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// The journal's writer: joined at the end, so that nothing accepted is lost.
pub(crate) struct Writer(JoinHandle<()>);

/// Starts a journal that writes to `sink`.
pub(crate) fn start(sink: Box<dyn Write + Send>, form: Form) -> (Arc<Journal>, Writer) {
    let (queue, mut records) = channel(QUEUE);
    let writer = std::thread::spawn(move || write_all(&mut records, sink, &form));
    (Arc::new(Journal { queue, dropped: Arc::default() }), Writer(writer))
}

impl Journal {
    /// Records that a full queue dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Records for Journal {
    fn record(&self, record: Record) {
        match self.queue.try_send(record) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Writer {
    /// Waits until every record is written: until the last [`Journal`] is gone, or for
    /// [`PATIENCE`] when somebody keeps one (a reload that hangs must not hang the end as well).
    pub(crate) fn finish(self) {
        self.finish_within(PATIENCE);
    }

    fn finish_within(self, patience: Duration) {
        for _ in 0..patience.as_millis().div_ceil(STEP.as_millis()) {
            if self.0.is_finished() {
                break;
            }
            std::thread::sleep(STEP);
        }
        if !self.0.is_finished() {
            tracing::error!(
                "the journal is still in use at the end; its last records may be missing"
            );
            return;
        }
        if self.0.join().is_err() {
            tracing::error!("the journal's writer failed; its last records may be missing");
        }
    }
}

fn write_all(records: &mut Receiver<Record>, mut sink: Box<dyn Write + Send>, form: &Form) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    // No write while idle: the thread sleeps here until a record comes.
    while let Some(first) = records.blocking_recv() {
        line(&mut batch, &first, form);
        if matches!(form, Form::Json) {
            // Asleep, not waiting at the queue: there each record would have to wake this thread,
            // a system call on the path of its request.
            std::thread::sleep(GATHER);
        }
        while let Ok(next) = records.try_recv() {
            if batch.len() >= BATCH_BYTES {
                write(&mut batch, &mut sink);
            }
            line(&mut batch, &next, form);
        }
        write(&mut batch, &mut sink);
    }
}

fn write(batch: &mut Vec<u8>, sink: &mut Box<dyn Write + Send>) {
    if let Err(fault) = sink.write_all(batch).and_then(|()| sink.flush()) {
        tracing::error!(%fault, "decision records could not be written");
    }
    batch.clear();
}

fn line(batch: &mut Vec<u8>, record: &Record, form: &Form) {
    match form {
        // Writing to memory cannot fail; a record is plain data.
        Form::Json => drop(serde_json::to_writer(&mut *batch, record)),
        Form::Readable => batch.extend_from_slice(readable(record).as_bytes()),
    }
    batch.push(b'\n');
}

/// `22:41:07.120  403 deny  authorize  GET localhost:8443/v1/…  user:u_…  ScopeMissing  (payments.toml:31)`.
pub(crate) fn readable(record: &Record) -> String {
    let clock = record.at.get(11..23).unwrap_or(&record.at);
    let rule = record.rule.as_deref().map(|rule| format!("  ({rule})")).unwrap_or_default();
    let limit = record.limit.as_deref().map(|limit| format!("  [{limit}]")).unwrap_or_default();
    let mut text = format!(
        "{clock}  {} {:<5} {:<12} {} {}  {}  {}{rule}{limit}",
        record.status,
        record.decision,
        record.stage,
        record.method,
        record.target,
        record.caller,
        record.reason,
    );
    if let Some(shadow) = &record.shadow {
        text.push_str(&format!("  (shadow: {} {})", shadow.status, shadow.reason));
    }
    for clause in record.clauses.iter().filter(|clause| !clause.held) {
        text.push_str(&format!("\n              ✗ {}   {}", clause.clause, clause.inputs));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_does_not_wait_for_a_journal_that_is_kept() {
        let (kept, writer) = start(Box::new(std::io::sink()), Form::Json);
        writer.finish_within(Duration::from_millis(20));
        drop(kept);
    }

    /// A sink that keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<std::sync::Mutex<(usize, Vec<u8>)>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut kept = self.0.lock().unwrap();
            kept.0 += 1;
            kept.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_record_is_written_in_few_writes() {
        let kept = Kept::default();
        let (journal, writer) = start(Box::new(kept.clone()), Form::Json);
        for number in 0..3000 {
            journal.record(Record {
                at: String::new(),
                event: "request",
                request: format!("r_{number}"),
                decision: "allow",
                status: 200,
                stage: "forward",
                reason: String::new(),
                method: "GET".into(),
                target: String::new(),
                rule: None,
                caller: String::new(),
                client: None,
                ip: String::new(),
                limit: None,
                clauses: Vec::new(),
                asked: None,
                facts: None,
                resource: None,
                shadow: None,
                decided_us: 0,
                took_us: 0,
            });
        }
        assert_eq!(journal.dropped(), 0);
        drop(journal);
        writer.finish();
        let kept = kept.0.lock().unwrap();
        let lines: Vec<&str> = std::str::from_utf8(&kept.1).unwrap().lines().collect();
        assert_eq!(lines.len(), 3000);
        assert!(lines[2999].contains("\"r_2999\""), "in order: {}", lines[2999]);
        assert!(kept.0 < 60, "{} writes", kept.0);
    }

    #[test]
    fn the_end_comes_with_the_last_journal() {
        let (journal, writer) = start(Box::new(std::io::sink()), Form::Json);
        drop(journal);
        while !writer.0.is_finished() {
            std::thread::yield_now();
        }
        writer.finish();
    }
}
