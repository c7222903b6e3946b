"""What callers of the page send, checked before gradio reads it: a part of `space.page`.

gradio answers unfit arguments with `{"error": null}` and a traceback, and checks files only where
the payload has the form that it expects. `CheckedBlocks` lets nothing else through, whatever the
way in, and makes every refusal one sentence to the caller and one line in the log.
"""

import logging
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction

from space import uploads
from space.printable import printable

_MAX_TEXT = 1000  # characters; labels are far shorter
_log = logging.getLogger("marque")


def refusal(message: str) -> gr.Error:
    """An error that is an answer: the caller reads the message, nothing is traced."""
    return gr.Error(message, title="That did not work", print_exception=False)


def log_refusal(asked: str, error: gr.Error) -> None:
    """One line in the log for a refusal of what was asked."""
    _log.warning("refused %s: %s", asked, printable(error.message))


class CheckedBlocks(gr.Blocks):
    """gradio's Blocks whose functions get checked arguments and answer every failure."""

    async def process_api(
        self, block_fn: BlockFunction | int, inputs: list[Any], *others: Any, **named: Any
    ) -> dict[str, Any]:
        """As in gradio, but that every failure is a `gr.Error` that is not traced."""
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        try:
            checked = _arguments(function, inputs)
            return await super().process_api(block_fn, checked, *others, **named)
        except gr.Error as error:
            error.print_exception = False
            log_refusal(str(function.api_name), error)
            raise
        except Exception as error:
            _log.exception("%s failed", function.api_name)
            raise refusal("this failed here, not at your end; the server's log says why") from error


def _arguments(function: BlockFunction, given: list[Any]) -> list[Any]:
    """The arguments of a call: what was left out has its default, photos are received files.

    Raises:
        gr.Error: they do not fit.
    """
    wanted = list(function.inputs)
    if len(given) > len(wanted):
        names = ", ".join(str(getattr(component, "label", "")) for component in wanted)
        raise refusal(f"{len(given)} arguments are too many; there are {len(wanted)}: {names}")
    values: list[Any] = []
    for index, component in enumerate(wanted):
        value = given[index] if index < len(given) else getattr(component, "value", None)
        if isinstance(component, gr.Image):
            values.append(_photo(value))
        elif isinstance(component, gr.File):
            values.append(_photos(value))
        elif isinstance(value, list) and getattr(component, "multiselect", False):
            values.append(_texts(value, str(getattr(component, "label", ""))))
        elif isinstance(value, str) and len(value) > _MAX_TEXT:
            label = getattr(component, "label", "an argument")
            raise refusal(f"{label} is too long; the limit is {_MAX_TEXT} characters")
        elif value is None or isinstance(value, str | int | float):
            values.append(value)
        else:
            label = getattr(component, "label", "an argument")
            raise refusal(f"{label} is {_kind(value)}; it must be a number or text")
    return values


def _photo(value: Any) -> dict[str, Any] | None:
    """A photo as gradio passes it on, made of nothing but what was checked."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise refusal(
            f"the photo is {_kind(value)}; send the path of an uploaded file as "
            '{"path": …}, or a data URL as {"url": …}'
        )
    url, name = value.get("url"), value.get("orig_name")
    try:
        if isinstance(url, str) and url.startswith("data:") and not value.get("path"):
            path = uploads.keep_data_url(url)
        else:
            path = uploads.received(value.get("path"))
    except uploads.UploadError as error:
        raise refusal(str(error)) from None
    return {
        "path": path,
        "orig_name": name if isinstance(name, str) else None,
        "meta": {"_type": "gradio.FileData"},
    }


def _photos(value: Any) -> list[dict[str, Any] | None] | None:
    """Several photos."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise refusal(f"the photos are {_kind(value)}; send a list of uploaded files")
    return [_photo(photo) for photo in value if photo is not None]


def _texts(value: list[Any], label: str) -> list[str]:
    """Several words, chosen or typed."""
    if not all(isinstance(text, str) and len(text) <= _MAX_TEXT for text in value):
        raise refusal(f"{label} holds something that is no short text")
    return value


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    words = {str: "text", list: "a list", dict: "an object", bool: "true or false"}
    return words.get(type(value), "a number")
