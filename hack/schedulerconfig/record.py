#!/usr/bin/env python3
"""Puts every configuration of a table to upstream's kube-scheduler and writes its error below: record.py BINARY TABLE.

A table has blocks: `=== name`, flags after `# ` if there are any (`# replace`: the text is the whole file), the
configuration, and after `>>> ` what upstream said; `>>> ` alone: it found nothing wrong.
"""
import re
import subprocess
import sys
import tempfile

HEAD = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"


def answer(binary, flags, text):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        # Nobody listens there: whoever gets that far has found nothing wrong.
        command = [binary, f"--config={file.name}", "--master=http://127.0.0.1:1", "--secure-port=0"]
        try:
            done = subprocess.run(command + flags, capture_output=True, text=True, timeout=3)
        except subprocess.TimeoutExpired:
            return ""
        lines = re.search(r'"command failed" err=<\n((?:\t.*\n)*)', done.stderr)
        if lines:
            return lines[1].replace("\t", "", 1).rstrip().replace("\n\t", "\n").replace(file.name, "FILE").replace("\n", "\\n")
        said = re.search(r'"command failed" err="((?:[^"\\]|\\.)*)"', done.stderr)
        if not said:
            return done.stderr.strip().splitlines()[-1].replace(file.name, "FILE")
        return said[1].replace(file.name, "FILE").replace('\\"', '"').replace("\\\\", "\\")


def main():
    binary, table = sys.argv[1:]
    blocks = [b for b in re.split(r"^=== ", open(table).read(), flags=re.M) if b]
    out = []
    for block in blocks:
        name, _, rest = block.partition("\n")
        lines = [l for l in rest.splitlines() if not l.startswith(">>>")]
        flags = lines.pop(0)[2:].split() if lines and lines[0].startswith("# ") else []
        replaced = flags == ["replace"]
        text = "".join(f"{line}\n" for line in lines)
        whole = text if replaced else HEAD + text
        said = answer(binary, [] if replaced else flags, whole)
        out.append(f"=== {name}\n")
        if flags:
            out.append("# " + " ".join(flags) + "\n")
        if lines:
            out.append(text)
        out.append(f">>> {said}".rstrip() + "\n")
    open(table, "w").write("".join(out))


main()
