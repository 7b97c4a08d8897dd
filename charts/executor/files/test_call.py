import os
import pathlib
import subprocess
import sys

if token := os.environ.get("TOKEN_FILE"):
    os.environ["EXECUTOR_API_KEY"] = pathlib.Path(token).read_text()
run = [sys.executable, "-m", "executor_api", "run", "--timeout", "60", "print(6 * 7)"]
call = subprocess.run(run, capture_output=True, text=True, check=False)
print("stdout", repr(call.stdout), "stderr", repr(call.stderr), "exit code", call.returncode)
sys.exit(0 if (call.stdout, call.returncode) == ("42\n", 0) else 1)
