// The program that runs tests. Without an argument it starts itself once for each line of the file
// `secret` after the first; with the number of an answer it runs the tests of that one.

/* modules */

const WALL: ::std::time::Duration = ::std::time::Duration::from_secs(10);
const OUTPUT: u64 = 1 << 20; // bytes of an answer's own output

trait Passed {
    fn passed(self) -> bool;
}
impl Passed for () {
    fn passed(self) -> bool {
        true
    }
}
impl<T: Passed, E> Passed for ::std::result::Result<T, E> {
    fn passed(self) -> bool {
        self.is_ok_and(Passed::passed)
    }
}

fn main() {
    match ::std::env::args().nth(1) {
        ::std::option::Option::Some(number) => run(&number),
        ::std::option::Option::None => supervise(),
    }
}

/// Run the tests of an answer; print the secret on standard input with the number of each that
/// passes. Standard input is at its end before any of the answer's code runs.
fn run(number: &str) {
    use ::std::io::{Read, Write};
    let mut secret = ::std::string::String::new();
    ::std::io::stdin().read_to_string(&mut secret).unwrap();
    let tests: &[(fn() -> bool, bool)] = match number {
        /* arms */
        _ => ::std::process::exit(2),
    };
    for (number, (test, panics)) in tests.iter().enumerate() {
        let passed = match ::std::panic::catch_unwind(test) {
            ::std::result::Result::Ok(passed) => passed && !panics,
            ::std::result::Result::Err(_) => *panics,
        };
        if passed {
            let mut out = ::std::io::stdout().lock();
            let _ = ::std::writeln!(out, "\n{secret} {number}");
            let _ = out.flush();
        }
    }
}

/// Print a line for each answer: our secret, its number, how it ended, the tests that passed.
fn supervise() {
    let told = ::std::fs::read_to_string("secret").unwrap();
    ::std::fs::remove_file("secret").unwrap();
    let mut lines = told.lines();
    let own = lines.next().unwrap();
    for line in lines {
        let (number, secret) = line.split_once(' ').unwrap();
        let (how, said) = one(number, secret);
        let passed: ::std::vec::Vec<&str> = ::std::str::from_utf8(&said)
            .map(|text| text.lines().filter_map(|line| line.strip_prefix(secret)).collect())
            .unwrap_or_else(|_| of_bytes(&said, secret.as_bytes()));
        ::std::println!("{own} {number} {how}{}", passed.concat());
    }
}

/// The same lines in output that is no text.
fn of_bytes<'a>(said: &'a [u8], secret: &[u8]) -> ::std::vec::Vec<&'a str> {
    said.split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(secret))
        .filter_map(|rest| ::std::str::from_utf8(rest).ok())
        .collect()
}

/// How a process with the tests of one answer ended, and what it wrote.
fn one(number: &str, secret: &str) -> (::std::string::String, ::std::vec::Vec<u8>) {
    use ::std::io::{Read, Write};
    use ::std::os::unix::process::ExitStatusExt;
    use ::std::process::{Command, Stdio};
    let mut child = Command::new("./program")
        .arg(number)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(secret.as_bytes());
    let stdout = child.stdout.take().unwrap();
    let (sender, receiver) = ::std::sync::mpsc::channel();
    let reader = ::std::thread::spawn(move || {
        let mut said = ::std::vec::Vec::new();
        let _ = stdout.take(OUTPUT).read_to_end(&mut said);
        let _ = sender.send(said);
    });
    let until = ::std::time::Instant::now() + WALL;
    let mut said = receiver.recv_timeout(WALL).ok();
    let how = loop {
        match child.try_wait().unwrap() {
            ::std::option::Option::Some(status) => {
                break match status.signal() {
                    ::std::option::Option::Some(signal) => ::std::format!("signal-{signal}"),
                    ::std::option::Option::None => "ended".to_string(),
                };
            }
            ::std::option::Option::None if ::std::time::Instant::now() >= until => {
                let _ = child.kill();
                let _ = child.wait();
                break "slow".to_string();
            }
            ::std::option::Option::None => {
                ::std::thread::sleep(::std::time::Duration::from_millis(1));
            }
        }
    };
    if said.is_none() {
        said = receiver.recv().ok();
    }
    let _ = reader.join();
    (how, said.unwrap_or_default())
}
