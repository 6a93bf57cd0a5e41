"""The flags of the server, each with its default and help text."""
import dataclasses

from adapter_bert.errors import InputError
from adapter_bert.fields import KERNELS, PRECISIONS, setting
from adapter_bert.packs import index

CHOICES = {"precision": PRECISIONS, "kernels": KERNELS}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags of `adapter-bert serve`."""

    bert_dir: str = setting("", "The base: folder, name on the Hugging Face Hub, or demo.")
    hub: str | None = setting(
        None, "Hub with the packs: a folder, its http(s):// address, or hf://owner/repo.")
    tasks: str | None = setting(
        None, "Names of the packs to load, as in a,b; by default all that fit the base.")
    cache_dir: str | None = setting(
        None, "Folder for downloaded packs; by default packs/ in the cache "
              "($ADAPTER_BERT_CACHE, else ~/.cache/adapter-bert).")
    slots: int = setting(
        100, "Packs per graph that can be used without copying; others are copied in when needed.")
    max_adapter_size: int = setting(64, "Largest adapter size that can be loaded.")
    max_labels: int = setting(16, "Most labels of a task that can be loaded.")
    max_graphs: int = setting(
        16, "Most kinds of packs (method, activation, head, ...); each needs a graph.")
    precision: str = setting(
        "auto", "Type of the matmuls: float32, bfloat16, or auto (what is faster on this CPU).")
    kernels: str = setting(
        "auto", "Implementation: plain (TensorFlow operations), fused (kernels compiled here), or "
                "auto.")
    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 for all of this machine.")
    allowed_hosts: str | None = setting(
        None, "Host names that requests may use, as in a.example,b.example; * for any. Default: "
              "this machine's if --host is a loopback address, otherwise any.")
    port: int = setting(8501, "Port to listen on; 0 for any free one.")
    model_name: str = setting(
        "adapter-bert", "Model name for requests that name the task in each row.")
    admin_token_file: str | None = setting(
        None, "File with a token for adding and removing packs; otherwise the environment variable "
              "ADAPTER_BERT_ADMIN_TOKEN; without either, packs cannot be changed.")
    client_token_file: str | None = setting(
        None, "File with a token that requests must have (Authorization: Bearer TOKEN); without "
              "it, everybody is served.")
    batch_rows: int = setting(32, "Largest batch, in rows.")
    batch_wait_ms: float = setting(
        2.0, "Milliseconds that a row waits for others to fill the batch.")
    queue_rows: int = setting(2048, "Most waiting rows; beyond that, requests get 503.")
    request_timeout: float = setting(
        30.0, "Seconds that a request may take; after that it gets 503.")
    max_requests: int = setting(256, "Most concurrent requests; beyond that, requests get 503.")
    max_connections_per_address: int = setting(
        128, "Most connections per client address; no limit for loopback addresses.")
    max_body_bytes: int = setting(1 << 20, "Most bytes of a request body.")
    max_rows: int = setting(256, "Most rows of a request.")
    max_characters: int = setting(20_000, "Most characters of a text.")
    max_pack_bytes: int = setting(256 << 20, "Most bytes of a pack.")
    encode_threads: int = setting(2, "Threads that parse requests and tokenize texts.")

    def __post_init__(self):
        """Checks the values; InputError if one is not allowed."""
        if not self.bert_dir:
            raise InputError("--bert_dir is missing: name the base (a folder, a name on the "
                             "Hugging Face Hub, or demo)")
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), _LEAST.get(field.name, 1)
            if isinstance(value, (int, float)) and not least <= value < 1 << 40:
                raise InputError(f"--{field.name}={value}: give {least} or more")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"--{name}={getattr(self, name)}: give one of "
                                 f"{', '.join(allowed)}")
        if self.port > 65535:
            raise InputError(f"--port={self.port}: ports end at 65535")
        if self.queue_rows < self.max_rows:
            raise InputError(f"--queue_rows={self.queue_rows}: a request of --max_rows="
                             f"{self.max_rows} would never be taken; give as many or more")
        self._check_texts()

    def _check_texts(self):
        for name in ("admin_token_file", "client_token_file"):
            if getattr(self, name) == "":   # of an unset variable; it must not open the server
                raise InputError(f"--{name} is empty; name a file, or leave the flag out")
        for name in (self.model_name, *self.names()):
            index.check_name(name)

    def names(self):
        """The packs to load; () for all."""
        return tuple(filter(None, (self.tasks or "").split(",")))


_LEAST = {"port": 0, "batch_wait_ms": 0, "request_timeout": 0.01}   # of the others 1
