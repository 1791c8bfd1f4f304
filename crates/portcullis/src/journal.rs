//! The journal: where decision records go. One writer thread behind a bounded queue; the request
//! path never waits for it. A full queue drops the record and counts it: `/metrics` tells.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use portcullis_core::audit::{Record, Records};

/// Most records that wait for the writer: about 60 MB at worst.
const QUEUE: usize = 64 * 1024;
/// Bytes gathered before a write.
const BATCH_BYTES: usize = 64 * 1024;
/// Longest that a record waits for company: one write for many lines under load.
const GATHER: Duration = Duration::from_millis(20);

/// How records are written.
pub(crate) enum Form {
    /// One JSON object per line.
    Json,
    /// Columns, for a person at a terminal.
    Readable,
}

/// The journal's front: cheap to share.
pub(crate) struct Journal {
    queue: SyncSender<Record>,
    dropped: Arc<AtomicU64>,
}

/// The journal's writer: joined at the end, so that nothing accepted is lost.
pub(crate) struct Writer(JoinHandle<()>);

/// Starts a journal that writes to `sink`.
pub(crate) fn start(sink: Box<dyn Write + Send>, form: Form) -> (Arc<Journal>, Writer) {
    let (queue, records) = sync_channel(QUEUE);
    let writer = std::thread::spawn(move || write_all(&records, sink, &form));
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
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Writer {
    /// Waits until every record is written. The last [`Journal`] must be gone.
    pub(crate) fn finish(self) {
        if self.0.join().is_err() {
            tracing::error!("the journal's writer failed; its last records may be missing");
        }
    }
}

fn write_all(records: &Receiver<Record>, mut sink: Box<dyn Write + Send>, form: &Form) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    // No write while idle: the thread sleeps here until a record comes.
    while let Ok(first) = records.recv() {
        line(&mut batch, &first, form);
        let wait = if matches!(form, Form::Readable) { Duration::ZERO } else { GATHER };
        gather(records, &mut batch, (form, wait));
        if let Err(fault) = sink.write_all(&batch).and_then(|()| sink.flush()) {
            tracing::error!(%fault, "decision records could not be written");
        }
        batch.clear();
    }
}

fn gather(records: &Receiver<Record>, batch: &mut Vec<u8>, (form, wait): (&Form, Duration)) {
    while batch.len() < BATCH_BYTES {
        match records.recv_timeout(wait) {
            Ok(next) => line(batch, &next, form),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
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
    for clause in record.clauses.iter().filter(|clause| !clause.held) {
        text.push_str(&format!("\n              ✗ {}   {}", clause.clause, clause.inputs));
    }
    text
}
