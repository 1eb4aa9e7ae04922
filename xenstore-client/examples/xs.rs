//! The store from a host's command line: domain 0 of Xen's, or any that has
//! `/dev/xen/xenbus`.

use std::{
    error::Error,
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Parser, Subcommand, ValueEnum};
use xenstore_client::{Client, Stream, machine::Repeats};

/// Works with Xen's store
#[derive(Debug, Parser)]
struct Cli {
    /// How to reach the server
    #[arg(long, default_value = "any")]
    by: By,
    /// Seconds that one answer may take
    #[arg(long, default_value_t = 10)]
    timeout: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// By the socket if there is one, else by the device
    Any,
    /// By xenstored's socket
    Socket,
    /// By the kernel's device
    Device,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a node's value
    Read {
        /// The node
        path: String,
    },
    /// Set a node's value
    Write {
        /// The node
        path: String,
        /// Its value
        value: String,
    },
    /// List the names below a node
    List {
        /// The node
        path: String,
    },
    /// Remove a node and all below it
    Remove {
        /// The node
        path: String,
    },
    /// Print who may do what with a node
    Permissions {
        /// The node
        path: String,
    },
    /// Print paths as they change
    Watch {
        /// The node
        path: String,
        /// End after so many
        #[arg(long)]
        count: Option<u64>,
    },
    /// Make many nodes below a node, a hundred in one transaction
    Fill {
        /// The node
        path: String,
        /// How many
        count: u64,
    },
    /// Write whatever is written to PATH/ask to PATH/answer, until it is "end";
    /// if it begins with "time", followed by the nanoseconds since 1970
    Echo {
        /// The node
        path: String,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    let stream = match cli.by {
        By::Any => Stream::open(),
        By::Socket => Stream::socket(),
        By::Device => Stream::device(),
    };
    let stream = stream.map_err(|error| format!("cannot reach the store: {error}"))?;
    let store = Client::new(stream);
    let most = Some(Duration::from_secs(cli.timeout));
    let tree = store.tree();
    let mut out = std::io::stdout().lock();
    match cli.command {
        Command::Read { path } => {
            out.write_all(&store.wait(most, tree.read(&path))?)?;
            writeln!(out)?;
        }
        Command::Write { path, value } => store.wait(most, tree.write(&path, value))?,
        Command::List { path } => {
            for name in store.wait(most, tree.directory(&path))? {
                writeln!(out, "{name}")?;
            }
        }
        Command::Remove { path } => store.wait(most, tree.remove(&path))?,
        Command::Permissions { path } => {
            for permission in store.wait(most, tree.permissions(&path))? {
                writeln!(out, "{permission}")?;
            }
        }
        Command::Watch { path, count } => {
            let watch = store.wait(most, store.watch(&path))?;
            for _ in 0..count.unwrap_or(u64::MAX) {
                writeln!(out, "{}", store.wait(None, watch.next())?)?;
                out.flush()?;
            }
        }
        Command::Fill { path, count } => {
            for first in (0..count).step_by(100) {
                store.wait(most, async {
                    store
                        .transaction(async |tree| {
                            for index in first..count.min(first + 100) {
                                tree.mkdir(&format!("{path}/node-{index:04}")).await?;
                            }
                            Ok(())
                        })
                        .await
                })?;
            }
            let there = store.wait(most, tree.directory(&path))?.len();
            writeln!(out, "{there} nodes below {path}")?;
        }
        Command::Echo { path } => {
            let (ask, answer) = (format!("{path}/ask"), format!("{path}/answer"));
            let watch = store.wait(most, store.watch_with(&ask, None, Repeats::Merge))?;
            loop {
                store.wait(None, watch.next())?;
                let mut asked = store.wait(most, tree.try_read(&ask))?.unwrap_or_default();
                if asked == b"end" {
                    break;
                }
                if asked.starts_with(b"time") {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                    asked.extend(format!(" {}", now.as_nanos()).as_bytes());
                }
                store.wait(most, tree.write(&answer, asked))?;
            }
        }
    }
    Ok(())
}
