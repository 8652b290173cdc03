"""The server of mlship and the controls."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from serving.model import Digits, load

models: list[Digits] = []


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    models.append(load())
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health/live")
@app.get("/health/ready")
async def healthy() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(request: dict) -> dict:
    return models[0].predict(request)
