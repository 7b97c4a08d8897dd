import os
import urllib.request

with urllib.request.urlopen(os.environ["EXECUTOR_URL"] + "/readyz", timeout=30) as answer:
    print(answer.read().decode())
