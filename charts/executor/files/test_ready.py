import os
import urllib.request

with urllib.request.urlopen(os.environ["EXECUTOR_URL"] + "/readyz", timeout=30) as answer:
    print(answer.read().decode())
print("no call was made: this test has neither the key of auth.apiKey nor a token for auth.tokenReview")
