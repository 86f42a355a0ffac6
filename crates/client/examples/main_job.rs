// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What `./demo rust` runs: the main job, step by step. Each step says what it does, compares it
//! with what the program really did, and ends all with status 1 where the two differ.

use std::future::Future;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proton_stream::worker::{self, Next, Worker};
use proton_stream::{Command, Message, Options, ProtonStream, Reason, Signal, Stdio};

/// What to say beside a step's ✓, or what differs.
type Told = Result<String, Box<dyn std::error::Error>>;

/// How long something may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

const NONE: [&str; 0] = [];

async fn conversation() -> Told {
    let (cat, mut messages) = ProtonStream::open("cat", NONE, Options::new()).await?;
    for line in ["hello\n", "and once more\n"] {
        cat.command(line)?;
        say(&format!("we:  {}", line.trim()));
        let answer = text_of(messages.recv().await)?;
        say(&format!("cat: {}", answer.trim()));
        expect("cat's answer", answer.as_str(), line)?;
    }
    let exit = cat.close().await?;
    expect("how it ended", exit.reason(), &Reason::Normal)?;
    Ok("both answers are right, and cat is closed".into())
}

async fn filter() -> Told {
    let (sort, mut messages) = ProtonStream::open("sort", NONE, Options::new()).await?;
    for word in ["pear", "apple", "fig"] {
        sort.write(format!("{word}\n")).await?;
        say(&format!("we:   {word}"));
    }
    sort.eof();
    let sorted = text_of(messages.recv().await)?;
    say(&format!("sort: {sorted:?}"));
    expect("what sort wrote", sorted.as_str(), "apple\nfig\npear\n")?;
    match messages.recv().await {
        Some(Message::Exit(exit)) => expect("how sort ended", exit.reason(), &Reason::Normal)?,
        other => return Err(format!("after its output: {other:?}").into()),
    }
    Ok("all of it came before the exit".into())
}

async fn two_streams() -> Told {
    let script = "echo this is the result; echo this is a warning >&2; exit 3";
    let output = Command::new("sh").args(["-c", script]).output().await?;
    say(&format!("stdout: {:?}", String::from_utf8_lossy(&output.stdout)));
    say(&format!("stderr: {:?}", String::from_utf8_lossy(&output.stderr)));
    say(&format!("it {}", output.exit));
    expect("stdout", &output.stdout[..], b"this is the result\n")?;
    expect("stderr", &output.stderr[..], b"this is a warning\n")?;
    expect("the exit", output.exit.code(), Some(3))?;
    Ok("each stream by itself, and the exit status as it was".into())
}

/// This executable, as a host that is killed.
const HOST: &str = "--host";

async fn killed_host() -> Told {
    // A host that is itself a child of ours, only to have it killed.
    let mut host = std::process::Command::new(std::env::current_exe()?);
    let mut host = host.arg(HOST).stdout(std::process::Stdio::piped()).spawn()?;
    let stdout = host.stdout.take().ok_or("no stdout")?;
    let (host, pids) = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
            .map(|_| (host, line))
    })
    .await??;
    let mut host = host;
    let pids: Vec<u32> = pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    say(&format!("a host runs {pids:?}: a shell that ignores SIGTERM, and a daemon of it"));
    expect("all of them run", pids.len() == 2 && pids.iter().all(|pid| is_alive(*pid)), true)?;
    host.kill()?;
    host.wait()?;
    say("kill -KILL of the host");
    for pid in pids {
        eventually(&format!("process {pid} is gone"), || !is_alive(pid)).await?;
    }
    Ok("the daemon, too, went with the host".into())
}

async fn host() -> Told {
    let script = "trap '' TERM; setsid sh -c 'echo $$ $PPID; exec sleep 1000'; sleep 1000";
    let (_sh, mut messages) = ProtonStream::open("sh", ["-c", script], Options::new()).await?;
    print!("{}", text_of(messages.recv().await)?);
    std::io::Write::flush(&mut std::io::stdout())?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    Ok(String::new())
}

/// A program that fails twice.
struct Flaky(AtomicU32);

impl Worker for Flaky {
    type Message = ();

    fn command(&self) -> Command {
        let attempt = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo attempt {attempt}; test {attempt} -ge 3")]);
        command
    }

    async fn handle_stdout(&mut self, data: Bytes, _: &ProtonStream) -> Next {
        say(String::from_utf8_lossy(&data).trim());
        Next::Continue
    }
}

async fn supervised() -> Told {
    let mut flaky = Flaky(AtomicU32::new(0));
    let mut restarts = 0;
    while !worker::run(&mut flaky).await?.success() {
        restarts += 1;
    }
    expect("how often it was restarted", restarts, 2)?;
    Ok("a loop restarted the worker until it ended well".into())
}

async fn flow() -> Told {
    let mut yes = Command::new("yes").stdout(Stdio::piped()).spawn().await?;
    eventually("a window is full", || yes.info().held == 256 << 10).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    say(&format!("yes has written for 0.3 s, and {} bytes are held", yes.info().held));
    expect("what is held", yes.info().held, 256 << 10)?;
    let exit = yes.kill().await?;
    expect("how it ended", exit.signal(), Some(Signal::KILL))?;
    Ok("who isn't read waits, and memory doesn't grow".into())
}

async fn stubborn() -> Told {
    let script = "trap '' TERM; echo armed; while :; do sleep 0.1; done";
    let options = Options::new().kill_delay(Duration::from_millis(300));
    let (sh, mut messages) = ProtonStream::open("sh", ["-c", script], options).await?;
    expect("it is armed", text_of(messages.recv().await)?.as_str(), "armed\n")?;
    let pid = sh.os_pid().ok_or("it has no pid")?;
    say(&format!("{pid} ignores SIGTERM; it gets 300 ms"));
    let since = Instant::now();
    let exit = sh.close().await?;
    let took = since.elapsed();
    expect("the signal that ended it", exit.signal(), Some(Signal::KILL))?;
    expect("it had its time", took >= Duration::from_millis(300), true)?;
    expect("it runs", is_alive(pid), false)?;
    Ok(format!("closed and dead after {} ms", took.as_millis()))
}

fn say(text: &str) {
    println!("   {text}");
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, really: T, told: T) -> Result<(), String> {
    if really == told {
        return Ok(());
    }
    Err(format!("{what}: told {told:?}, really {really:?}"))
}

fn text_of(message: Option<Message>) -> Result<String, String> {
    match message {
        Some(Message::Data(data)) => Ok(String::from_utf8_lossy(&data).into_owned()),
        other => Err(format!("in place of output: {other:?}")),
    }
}

/// A zombie is gone as far as running goes.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > until {
            return Err(format!("not after {PATIENCE:?}: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn step(number: usize, title: &str, step: impl Future<Output = Told>) -> bool {
    println!("\n{number}. {title}");
    let told = match tokio::time::timeout(PATIENCE * 2, step).await {
        Ok(told) => told,
        Err(_) => Err("it didn't come to an end".into()),
    };
    match &told {
        Ok(result) => println!("   ✓ {result}"),
        Err(differs) => {
            println!("   ✗ {differs}");
            println!("\ndemo: step {number} isn't as told: {title}");
        }
    }
    told.is_ok()
}

async fn demo() -> bool {
    let all = step(1, "A conversation with cat", conversation()).await
        && step(2, "sort, which answers only once its stdin has ended", filter()).await
        && step(3, "stdout and stderr apart, and the exit status", two_streams()).await
        && step(4, "A host that is killed, and what it ran", killed_host()).await
        && step(5, "A worker that is restarted", supervised()).await
        && step(6, "A program that nobody reads", flow()).await
        && step(7, "A program that ignores SIGTERM", stubborn()).await;
    if all {
        println!("\ndemo: all 7 steps were as told");
    }
    all
}

fn main() -> ExitCode {
    proton_stream::maybe_run();
    let is_host = std::env::args().nth(1).is_some_and(|word| word == HOST);
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    let is_well = runtime.block_on(async {
        match is_host {
            true => host().await.is_ok(),
            false => demo().await,
        }
    });
    ExitCode::from(u8::from(!is_well))
}
