"""What the server is told, each with its default and its flag's help text."""
import dataclasses

from adapter_bert.errors import InputError
from adapter_bert.fields import KERNELS, PRECISIONS, setting
from adapter_bert.packs import index

CHOICES = {"precision": PRECISIONS, "kernels": KERNELS}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags of `adapter-bert serve`."""

    bert_dir: str = setting("", "Folder of the base, in Google's form.")
    hub: str | None = setting(
        None, "Where the packs are: a folder, its http(s):// address, or hf://owner/repo.")
    tasks: str | None = setting(
        None, "Names of the packs to load, as in a,b; all that fit the base unless given.")
    cache_dir: str | None = setting(
        None, "Folder for packs of a hub that is not a folder; packs in the cache "
              "($ADAPTER_BERT_CACHE, else ~/.cache/adapter-bert).")
    slots: int = setting(
        100, "Packs that lie beside the graph at once; others wait in host memory for their turn.")
    max_adapter_size: int = setting(64, "Width of the widest adapter that can be loaded.")
    max_labels: int = setting(16, "Labels of the largest task that can be loaded.")
    max_graphs: int = setting(
        16, "Kinds of packs (method, activation, head, ...) for which a graph may be built.")
    precision: str = setting(
        "auto", "Type of the products: float32, bfloat16, or auto for what this CPU is faster in.")
    kernels: str = setting(
        "auto", "Between the products: plain formulas, fused kernels compiled here, or auto.")
    host: str = setting("127.0.0.1", "Address to listen at; 0.0.0.0 for every one.")
    allowed_hosts: str | None = setting(
        None, "Host names by which requests may call the server, as in a.example,b.example; * for "
              "any. By default those of this machine if --host is a loopback address, else any.")
    port: int = setting(8501, "Port to listen at; 0 for any that is free.")
    model_name: str = setting("adapter-bert", "The name under which every task can be asked.")
    admin_token_file: str | None = setting(
        None, "File whose one line lets its bearer add and remove packs; else the environment's "
              "ADAPTER_BERT_ADMIN_TOKEN; without either nobody can.")
    client_token_file: str | None = setting(
        None, "File whose one line a request must bear, as the header Authorization: Bearer TOKEN; "
              "everybody is served unless given.")
    batch_rows: int = setting(32, "The most rows that are computed together.")
    batch_wait_ms: float = setting(2.0, "Milliseconds that a row waits for others to come.")
    queue_rows: int = setting(2048, "The most rows that wait; more are refused with 503.")
    request_timeout: float = setting(30.0, "Seconds that a request may take; then 503.")
    max_requests: int = setting(256, "The most requests under way; more are refused with 503.")
    max_connections_per_address: int = setting(
        128, "The most connections of one address; without bound for loopback addresses.")
    max_body_bytes: int = setting(1 << 20, "The most bytes of a request.")
    max_rows: int = setting(256, "The most rows of a request.")
    max_characters: int = setting(20_000, "The most characters of a text.")
    max_pack_bytes: int = setting(256 << 20, "The most bytes of a pack that is sent.")
    encode_threads: int = setting(2, "Threads that read requests and cut texts into word pieces.")

    def __post_init__(self):
        """Raises InputError where a value cannot be."""
        if not self.bert_dir:
            raise InputError("--bert_dir is missing: name the folder of the base, in Google's form")
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
        for name in (self.model_name, *self.names()):
            index.check_name(name)

    def names(self):
        """The packs that were asked for; () for all."""
        return tuple(filter(None, (self.tasks or "").split(",")))


_LEAST = {"port": 0, "batch_wait_ms": 0, "request_timeout": 0.01}   # of the others 1
