//! The console as the back end of the `log` crate.

use log::{LevelFilter, Log, Metadata, Record};

struct ConsoleLog;

impl Log for ConsoleLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            super::print(format_args!(
                "[{:5} {}] {}\n",
                record.level(),
                record.target(),
                record.args()
            ));
        }
    }

    fn flush(&self) {
        super::drain();
    }
}

/// Sends log records up to `level` to the console. A second call only changes
/// the level.
pub fn init(level: LevelFilter) {
    let _already: Result<(), log::SetLoggerError> = log::set_logger(&ConsoleLog);
    log::set_max_level(level);
}
