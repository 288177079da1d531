"""Secrets of every kind that the mask knows, made of random letters and digits."""

from __future__ import annotations

import base64
import random
import string

ALPHANUMERIC = string.ascii_letters + string.digits
HEX = "0123456789abcdef"

_TOKENS = {
    **{f"GitHub {kind}": (f"{kind}_", 36) for kind in ("ghp", "gho", "ghu", "ghs", "ghr")},
    "GitHub fine-grained": ("github_pat_", 60),
    "GitLab": ("glpat-", 20),
    "GitLab deploy": ("gldt-", 20),
    "Hugging Face": ("hf_", 34),
    "OpenAI": ("sk-", 48),
    "OpenAI project": ("sk-proj-", 60),
    "Anthropic": ("sk-ant-api03-", 80),
    "OpenRouter": ("sk-or-v1-", 64),
    "Slack bot": ("xoxb-123456789012-", 24),
    "Slack user": ("xoxp-123456789012-", 24),
    "Slack app": ("xapp-1-", 40),
    "Google API": ("AIza", 35),
    "Google OAuth": ("ya29.", 60),
    "Google client": ("GOCSPX-", 28),
    "npm": ("npm_", 36),
    "PyPI": ("pypi-", 80),
    "Stripe live": ("sk_live_", 24),
    "Stripe test": ("sk_test_", 24),
    "Stripe restricted": ("rk_live_", 24),
    "Groq": ("gsk_", 52),
    "xAI": ("xai-", 80),
    "NVIDIA": ("nvapi-", 64),
    "Replicate": ("r8_", 37),
    "Docker Hub": ("dckr_pat_", 27),
    "DigitalOcean": ("dop_v1_", 64),
    "Shopify": ("shpat_", 32),
    "Grafana": ("glsa_", 32),
    "Vault": ("hvs.", 90),
    "Linear": ("lin_api_", 40),
    "Perplexity": ("pplx-", 48),
    "Tailscale": ("tskey-auth-", 30),
    "Supabase": ("sbp_", 40),
    "Pinecone": ("pcsk_", 60),
    "wandb": ("wandb_v1_", 60),
    "LangSmith": ("lsv2_pt_", 32),
    "RunPod": ("rpa_", 40),
}
"""The beginning of a token and the number of letters and digits after it."""

_NAMED = {
    "flag": "--password {}",
    "flag with =": "--api-key={}",
    "pw": "--pw {}",
    "user and password": "-u bob:{}",
    "bearer": "bearer {}",
    "header": "Authorization: Bearer {}",
    "own header": "X-Api-Key: {}",
    "cookie": "Cookie: session={}",
    "address": "https://bob:{}@host/api",
    "database": "postgresql://bob:{}@db:5432/x?sslmode=require",
    "redis": "redis://:{}@cache:6379/0",
    "query": "https://host/api?access_token={}&page=2",
    "SAS": "https://x.blob.core.windows.net/c?sv=2024-01-01&sig={}",
    "S3 signature": "https://b.s3.amazonaws.com/k?X-Amz-Signature={}",
    "path": "https://host/token/{}/x.git",
    "JSON": '{{"user": "bob", "password": "{}"}}',
    "YAML": "password: {}",
    "TOML": 'db_password = "{}"',
    "XML": "<password>{}</password>",
    "environment": "export HF_TOKEN={}",
    "libpq": "host=db password={} user=bob",
    "ODBC": "Server=db;Uid=sa;Pwd={};",
    "Azure storage": "AccountName=x;AccountKey={};EndpointSuffix=core.windows.net",
    "AWS secret": "aws_secret_access_key = {}",
    "netrc": "machine host login bob password '{}'",
    "wandb key": "WANDB_API_KEY={}",
    "client secret": "clientSecret: '{}'",
}
"""Texts with a place for 24 letters and digits."""


def make(generator: random.Random) -> dict[str, tuple[str, str]]:
    """Return, by the name of its kind, a text with a secret in it, and the part of the text that is secret."""

    def some(count: int, letters: str = ALPHANUMERIC) -> str:
        # Not a word by chance: every four letters have a digit, a capital and a small letter where there are any.
        text = "".join(generator.choice(letters) for _ in range(count))
        return "".join(
            "aB3x"[n % 4] if n % 4 < 3 and n < 12 and letters is ALPHANUMERIC else c for n, c in enumerate(text)
        )

    kinds = {}
    for name, (beginning, count) in _TOKENS.items():
        secret = some(count)
        kinds[name] = (beginning + secret, secret)
    for name, text in _NAMED.items():
        secret = some(24)
        kinds[name] = (text.format(secret), secret)
    body = some(192)
    kinds["PEM"] = (
        f"-----BEGIN RSA PRIVATE KEY-----\n{body[:64]}\n{body[64:128]}\n{body[128:]}\n-----END RSA PRIVATE KEY-----",
        body[64:128],
    )
    one = some(64)
    kinds["PEM in a line"] = (f"-----BEGIN PRIVATE KEY-----\\n{one}\\n-----END PRIVATE KEY-----\\n", one)
    hook = some(24)
    kinds["Slack webhook"] = (f"https://hooks.slack.com/services/T01234567/B01234567/{hook}", hook)
    key = some(40)
    kinds["AWS pair"] = (f"AKIA{some(16, string.ascii_uppercase)}:{key}", key)
    databricks = some(32, HEX)
    kinds["Databricks"] = (f"dapi{databricks}", databricks)
    age = some(58, string.ascii_uppercase + string.digits)
    kinds["age"] = (f"AGE-SECRET-KEY-1{age}", age)
    grid = some(43)
    kinds["SendGrid"] = (f"SG.{some(22)}.{grid}", grid)
    bot = some(33)
    kinds["Telegram"] = (f"123456789:AA{bot}", bot)
    called = some(33)
    kinds["Telegram address"] = (f"https://api.telegram.org/bot123456789:AA{called}/getMe", called)
    part = some(43)
    kinds["JWT"] = (f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{part}", part)
    basic = base64.b64encode(f"bob:{some(18)}".encode()).decode()
    kinds["Basic"] = (f"Basic {basic}", basic)
    pin, otp = (str(generator.randrange(10**9, 10**10)) for _ in range(2))
    kinds["PIN"] = (f"--pin {pin}", pin)
    kinds["one-time password"] = (f"--otp={otp}", otp)
    discord = some(68)
    kinds["Discord webhook"] = (f"https://discord.com/api/webhooks/123456789012345678/{discord}", discord)
    azure = some(34)
    kinds["Azure AD"] = (f"aB38Q~{azure}", azure)
    return kinds


STAY = (
    "loss=0.5 acc=0.91 lr=3e-4 step=100",
    "epoch 3/10: 100%|##########| 500/500 [00:12<00:00, 41.2it/s, loss=0.3]",
    "commit 8c2a773f0d1e5b6a7c8d9e0f1a2b3c4d5e6f7081",
    "index 8c2a773..512df64 100644",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "123e4567-e89b-12d3-a456-426614174000",
    "https://github.com/me/x/commit/8c2a773f0d1e5b6a7c8d9e0f1a2b3c4d5e6f7081",
    "https://host:8080/path?email=me@example.com",
    "https://huggingface.co/datasets/me/x/resolve/main/train-00000-of-00001.parquet",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
    "/home/me/runs/2024-01-01_12-00-00/checkpoint-1000.pt",
    "C:\\Users\\me\\runs\\x.pt",
    "s3://bucket/runs/8c2a773f0d1e5b6a/model.safetensors",
    "--password-policy strict",
    "--password-file /run/secrets/db",
    "--max-tokens 100 --num-tokens=2.5e9 --token-limit 3",
    "--tokenizer gpt2 --pad-token <pad> --eos_token='</s>'",
    "-p 8080 -u 1000:1000",
    "-p data/train",
    "python -u train.py",
    "tokens: 128k/1024k tokens/s: 5123.4",
    "password is required, password was changed, password for bob: none",
    "the secret of success is step1000/2000",
    "token 'the' is next, token is <eos>",
    "--user 1000:1000 --user bob",
    "- name: lr\n  value: 0.1",
    '{"name": "lr", "value": 0.1}',
    "<a href='x'>b</a>",
    "loss per token: 2.345, bits/token = 1.2",
    "Loading tokens: 100%|####| 5/10",
    "next token: the",
    "special_tokens={'pad': '<pad>'}",
    "pass: 12/20",
    "pass rate = 0.5",
    "bypass: on, compass: north-east-1",
    "author: Jane Doe",
    "authentication failed",
    "auth: ok",
    "auth: disabled",
    "password: None",
    "password: <password>",
    "password=${DB_PASSWORD}",
    "token=args.token, lr=1",
    "api_key = os.environ['API_KEY']",
    'token = os.getenv("HF_TOKEN")',
    "client.login(password=args.password)",
    "def login(user: str, password: str) -> None:",
    "for token in tokens:",
    "self._api_key = api_key",
    "def render(self, token: SyntaxTreeNode) -> None:",
    'def next_one(self) -> Token:\n    """Return the next one."""',
    "token = state.tokens[j]",
    "password = await self.registry.get_password()",
    "Pass :meth:`peek` a default",
    "class Token:",
    "except InvalidToken:",
    "KeyError: 'api_key'",
    "InvalidTokenError: Signature has expired",
    "keypoints=17 monkey=1 key=value keys=a,b",
    "obs_key: pixels",
    "rng_key=0",
    "pin_memory=True pin: 17",
    "Basic training of the network",
    "basic usage: see the docs",
    "the bearer of the message",
    "bearer token missing",
    "sk-learn-random-forest-classifier",
    "task-with-a-very-long-name-indeed",
    "hf_model_checkpoint_directory_name",
    "npm_config_registry_of_the_project",
    "re_identification_network_weights",
    "use --token to pass one",
    "signature=a --sig=0.5",
    "Saved to /mnt/data/experiments/keyframe_00012345.png",
    "me@example.com wrote",
    "grad_norm/layers.0.attention.key.weight: 0.0123",
    "metrics/val_token_accuracy 0.5",
    "-----BEGIN CERTIFICATE-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5 me@host",
    "2026-12-01T08:00:00.123456Z",
    "GPU-8c2a773f-0d1e-5b6a-7c8d-9e0f1a2b3c4d",
    "cookie: enabled",
    "secrets are masked",
    "x" * 100,
    "===================",
    "torch.Size([32, 512, 768])",
    "{'lr': 0.1, 'optimizer': 'adam', 'betas': (0.9, 0.999)}",
    "std::auth::Token::new()",
    "http://localhost:6006/?darkMode=true#scalars",
)
"""Texts that have nothing secret in them."""
