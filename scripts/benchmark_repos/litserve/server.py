"""The model as a LitServe server."""

import litserve as ls
from serving.model import load


class Digits(ls.LitAPI):
    def setup(self, device: str) -> None:
        self._model = load()

    def predict(self, request: dict) -> dict:
        return self._model.predict(request)


if __name__ == "__main__":
    ls.LitServer(Digits(), accelerator="cpu").run(port=8000, generate_client_file=False)
