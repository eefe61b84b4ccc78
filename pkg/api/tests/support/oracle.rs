//! The oracle process (e2e/oracle): one request per line, one JSON answer per line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Oracle {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    /// The oracle whose program the environment variable names, if it is set.
    pub fn from_env(variable: &str) -> Option<Self> {
        let program = std::env::var_os(variable)?;
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Some(Oracle { child, input, output })
    }

    pub fn ask(&mut self, op: &str, input: &[u8]) -> serde_json::Value {
        let data = machinery::golang::encode_base64(input);
        let pipe = self.input.as_mut().expect("open");
        pipe.write_all(format!("{op}\t{data}\n").as_bytes()).expect("the oracle reads");
        pipe.flush().expect("the oracle reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the oracle answers");
        serde_json::from_str(&line).expect("an answer in JSON")
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
