"""The FastAPI app of most tutorials: a pydantic body, a plain function, uvicorn."""

from fastapi import FastAPI
from pydantic import BaseModel

from serving.model import load

app = FastAPI()
model = load()


class Request(BaseModel):
    pixels: list[list[float]]


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(request: Request) -> dict:
    return model.predict(request.model_dump())
